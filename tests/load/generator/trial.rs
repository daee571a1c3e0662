//! The generator is tried on a server that does everything wrong, before it judges any.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::ensure;
use rustix::net::sockopt;

use crate::generator::answer;
use crate::generator::tally::{Failure, Tally};
use crate::generator::{Load, Pace, Plan};

/// What the server does to one connection after the other.
const TRICKS: [Failure; 5] = [
    Failure::Reset,
    Failure::Eof,
    Failure::ServerError,
    Failure::Wrong,
    Failure::Raced,
];

/// Finds out whether everything is counted as what it is.
pub(crate) fn check() -> anyhow::Result<()> {
    ensure!(
        answer::check(),
        "the generator cannot tell a good answer from a bad one"
    );
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let server = std::thread::spawn(move || -> anyhow::Result<()> {
        for trick in TRICKS {
            let (stream, _) = listener.accept()?;
            play(stream, trick)?;
        }
        Ok(())
    });
    let tally = ask(port, TRICKS.len() as u64 + 1)?;
    server
        .join()
        .map_err(|_panic| anyhow::anyhow!("the server panicked"))??;
    for trick in TRICKS {
        let count = tally.failed(trick);
        // Who connects while the server closes its socket is reset, too.
        ensure!(
            count == 1 || trick == Failure::Reset && count == 2,
            "{} was counted {} times: {:?}",
            trick.as_str(),
            count,
            tally.losses
        );
    }
    ensure!(tally.answered == 1, "{} answers were counted", tally.answered);
    ensure!(tally.failed(Failure::Refused) > 0, "a closed port is not noticed");
    Ok(())
}

/// Requests one after the other until so many are over.
fn ask(port: u16, count: u64) -> anyhow::Result<Tally> {
    let load = Load::begin(Plan {
        port,
        keep_alive: true,
        connections: 1,
        slow: 0,
        pace: Pace::Closed,
        seed: 1,
    });
    load.goes_on(count + 2);
    load.end()
}

fn play(mut stream: TcpStream, trick: Failure) -> anyhow::Result<()> {
    let mut request = [0; 1024];
    let count = stream.read(&mut request)?;
    let text = String::from_utf8_lossy(&request[..count]).into_owned();
    let id = text.split([' ', '/']).nth(3).unwrap_or_default();
    let answer = |status: &str, id: &str| {
        let body = format!("{id} 7\n");
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    match trick {
        // What is not read is answered by a reset.
        Failure::Reset => sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO))?,
        Failure::ServerError => stream.write_all(answer("500 No", id).as_bytes())?,
        Failure::Wrong => stream.write_all(answer("200 OK", "0-0").as_bytes())?,
        Failure::Raced => {
            stream.write_all(answer("200 OK", id).as_bytes())?;
            let _next = stream.read(&mut request)?;
        }
        Failure::Eof | Failure::Refused | Failure::Timeout => {}
    }
    Ok(())
}
