//! Checks an app's `require` before anything is spawned.

use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::model::spec::AppSpec;

/// How long a required address may take to answer.
const TCP_PATIENCE: Duration = Duration::from_secs(2);

/// Checks everything and names all that is missing.
///
/// # Errors
/// One sentence for people: what is missing, and what kind of thing it is.
pub(crate) async fn check(spec: &AppSpec) -> Result<(), String> {
    let mut missing = Vec::new();
    for name in &spec.require.env {
        match spec.variable(name) {
            None => missing.push(format!("the environment variable {name} is not set")),
            Some(value) if value.is_empty() => missing.push(format!("the environment variable {name} is empty")),
            Some(_) => {}
        }
    }
    for file in &spec.require.files {
        if let Err(error) = std::fs::metadata(file.as_path()) {
            missing.push(format!(
                "the file {file} cannot be found: {}",
                crate::daemon::text::cause(&error)
            ));
        }
    }
    for address in &spec.require.tcp {
        if let Err(why) = reachable(address).await {
            missing.push(format!("nothing answers at {address}: {why}"));
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(format!("a requirement is not met: {}", missing.join("; ")))
    }
}

async fn reachable(address: &str) -> Result<(), String> {
    let owned = address.to_owned();
    let connect = async move {
        let found = tokio::task::spawn_blocking(move || owned.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        let candidates = found
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| crate::daemon::text::cause(&error))?;
        let mut last = "the name has no address".to_owned();
        for candidate in candidates {
            match tokio::net::TcpStream::connect(candidate).await {
                Ok(_) => return Ok(()),
                Err(error) => last = crate::daemon::text::cause(&error),
            }
        }
        Err(last)
    };
    match tokio::time::timeout(TCP_PATIENCE, connect).await {
        Ok(result) => result,
        Err(_) => Err("no answer within 2s".to_owned()),
    }
}
