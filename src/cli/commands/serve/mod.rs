//! Serves the files of a folder over HTTP: `index.html` for folders, `404.html` where there is one, or the
//! root's `index.html` for every unknown path with `--spa`.
//!
//! Nothing outside the folder is ever sent, whatever the path or a symbolic link says, and no hidden file.

mod auth;
mod guard;
mod site;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use auth::BasicAuth;
use site::Site;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr serve                            # this folder on http://127.0.0.1:8080
  clmgr serve dist --spa --port 3000
  clmgr serve public --host 0.0.0.0 --basic-auth user:pass
  clmgr start \"clmgr serve dist\" --name site

PORT is used where --port is missing, CLMGR_SERVE_AUTH where --basic-auth is (other users can see
arguments, but not the environment).";

/// `serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// The folder
    #[arg(value_name = "PATH", default_value = ".", add = complete::folders())]
    pub path: PathBuf,
    /// The TCP port; 0 picks a free one [default: $PORT or 8080]
    #[arg(long, short, value_name = "N")]
    pub port: Option<u16>,
    /// The address to listen on; 0.0.0.0 for all of them
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// Address and port in one, instead of --host and --port
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with_all = ["port", "host"])]
    pub listen: Option<String>,
    /// Answer unknown paths with the root's index.html
    #[arg(long)]
    pub spa: bool,
    /// Ask for this user and password [default: $CLMGR_SERVE_AUTH]
    #[arg(long, value_name = "USER:PASS")]
    pub basic_auth: Option<String>,
}

/// Where `serve` listens if nobody says.
const DEFAULT_PORT: u16 = 8080;

/// Open connections get this long to end after a signal.
const GRACE: Duration = Duration::from_secs(5);

pub(crate) fn run(args: &ServeArgs, context: &mut Context) -> Result<(), Failure> {
    let site = Site {
        root: folder(&args.path)?,
        spa: args.spa,
        auth: auth_of(args)?,
    };
    let address = address(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the server: {error}")))?;
    runtime.block_on(serve(site, &address, context))
}

async fn serve(site: Site, address: &str, context: &mut Context) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::failed(format!("cannot serve: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| cannot_listen(address, &error))?;
    let local = listener.local_addr().map_err(failed)?;
    announce(&site, local, context)?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = axum::serve(listener, site::router(site)).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let server = tokio::spawn(server.into_future());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(());
    // Connections that are still open after the grace end with the process.
    let _ = tokio::time::timeout(GRACE, server).await;
    Ok(())
}

fn announce(site: &Site, local: SocketAddr, context: &mut Context) -> Result<(), Failure> {
    if context.json {
        context
            .ui
            .json(&serde_json::json!({ "url": format!("http://{local}/"), "folder": site.root.to_string_lossy() }))?;
    } else {
        context
            .ui
            .line(format_args!("serving {} on http://{local}/", site.root.display()))?;
    }
    context.ui.flush()
}

fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let shown = path.display();
    let root = path
        .canonicalize()
        .map_err(|error| Failure::usage(format!("cannot serve the folder {shown}: {error}")))?;
    if root.is_dir() {
        Ok(root)
    } else {
        Err(Failure::usage(format!("{shown} is a file, not a folder")))
    }
}

fn auth_of(args: &ServeArgs) -> Result<Option<BasicAuth>, Failure> {
    let from_environment = || std::env::var("CLMGR_SERVE_AUTH").ok().filter(|text| !text.is_empty());
    args.basic_auth
        .clone()
        .or_else(from_environment)
        .map(|text| BasicAuth::parse(&text).ok_or_else(|| Failure::usage("--basic-auth is written USER:PASS")))
        .transpose()
}

fn address(args: &ServeArgs) -> Result<String, Failure> {
    if let Some(listen) = &args.listen {
        return Ok(listen.clone());
    }
    let from_environment = || std::env::var("PORT").ok().filter(|text| !text.is_empty());
    let port = match (args.port, from_environment()) {
        (Some(port), _) => port,
        (None, Some(text)) => text.parse().map_err(|_| {
            Failure::usage(format!("PORT is {text:?}, which is no port")).hint("clmgr serve --port 8080")
        })?,
        (None, None) => DEFAULT_PORT,
    };
    let host = args.host.trim_start_matches('[').trim_end_matches(']');
    Ok(if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    })
}

fn cannot_listen(address: &str, error: &io::Error) -> Failure {
    let kind = error.kind();
    if kind == io::ErrorKind::AddrInUse {
        return Failure::failed(format!("cannot listen on {address}: the port is in use"))
            .hint("choose another with --port, or 0 for a free one");
    }
    let failure = Failure::failed(format!("cannot listen on {address}: {error}"));
    if kind == io::ErrorKind::PermissionDenied {
        return failure.hint("ports below 1024 need root or CAP_NET_BIND_SERVICE");
    }
    failure
}
