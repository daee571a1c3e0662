//! `{fd}`, `{fd:NAME}`, `{port}` and `{port:NAME}` in the arguments and variables of an app that has `listen`.

use crate::model::listen::{Address, ListenSpec, numbers, only_tcp};

/// What one placeholder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fd,
    Port,
}

/// Replaces every placeholder. `port` gives the port that an entry has by now; what has none yet stays as it is.
///
/// # Errors
/// One names a socket that there is not, in a sentence for people.
pub fn fill(text: &str, listen: &[ListenSpec], port: &dyn Fn(&ListenSpec) -> Option<u16>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let Some((kind, name, length)) = placeholder(from) else {
            out.push('{');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        let (whole, after) = from.split_at(length);
        let (at, entry) = find(listen, kind, name).ok_or_else(|| unknown(listen, kind, name, whole))?;
        let value = match kind {
            Kind::Fd => numbers(listen).get(at).map(ToString::to_string),
            Kind::Port => port(entry).map(|port| port.to_string()),
        };
        out.push_str(value.as_deref().unwrap_or(whole));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The placeholder that a text begins with: kind, name, length.
fn placeholder(text: &str) -> Option<(Kind, Option<&str>, usize)> {
    let end = text.find('}')?;
    let inside = text.get(1..end)?;
    let (word, name) = match inside.split_once(':') {
        Some((word, name)) => (word, Some(name)),
        None => (inside, None),
    };
    let kind = match word {
        "fd" => Kind::Fd,
        "port" => Kind::Port,
        _ => return None,
    };
    Some((kind, name, end + 1))
}

/// By name the first that has it; without a name the first for `fd`, the only TCP socket or else the first with a
/// port for `port`.
fn find<'l>(listen: &'l [ListenSpec], kind: Kind, name: Option<&str>) -> Option<(usize, &'l ListenSpec)> {
    let fits = |entry: &ListenSpec| match kind {
        Kind::Fd => true,
        Kind::Port => entry.address.inet().is_some(),
    };
    let mut all = listen.iter().enumerate().filter(|(_, entry)| fits(entry));
    match (name, kind) {
        (Some(name), _) => all.find(|(_, entry)| entry.name == name),
        (None, Kind::Port) if only_tcp(listen).is_some() => {
            all.find(|(_, entry)| matches!(entry.address, Address::Tcp(_)))
        }
        (None, _) => all.next(),
    }
}

fn unknown(listen: &[ListenSpec], kind: Kind, name: Option<&str>, whole: &str) -> String {
    let Some(name) = name else {
        return format!("`{whole}`: no entry of `listen` has a port");
    };
    let here = listen.iter().any(|entry| entry.name == name);
    if kind == Kind::Port && here {
        return format!("`{whole}`: the entry of `listen` named `{name}` has no port");
    }
    let names: Vec<&str> = listen.iter().map(|entry| entry.name.as_str()).collect();
    format!(
        "`{whole}`: no entry of `listen` is named `{name}`; there is {}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::fill;
    use crate::model::listen::ListenSpec;

    #[test]
    fn placeholders_are_filled_and_other_braces_left() {
        let mut list = vec![
            ListenSpec::new("unix:/run/a.sock".parse().unwrap()),
            ListenSpec::new("0.0.0.0:0".parse().unwrap()),
        ];
        list[1].name = "http".into();
        let port = |entry: &ListenSpec| entry.address.inet().map(|_| 4000);
        for (text, expected) in [
            ("--fd {fd} {fd:http} {port}", "--fd 3 4 4000"),
            ("{port:http}{fd:a.sock}", "40003"),
            ("{x} {} { {{fd}} {fd", "{x} {} { {3} {fd"),
            ("{\"fd\": 1}", "{\"fd\": 1}"),
        ] {
            assert_eq!(fill(text, &list, &port).as_deref(), Ok(expected));
        }
        list[0].stdin = true;
        assert_eq!(fill("{fd} {fd:http}", &list, &port).as_deref(), Ok("0 3"));
        assert_eq!(fill("{port}", &list, &|_| None).as_deref(), Ok("{port}"));
        for (text, error) in [
            (
                "{fd:x}",
                "`{fd:x}`: no entry of `listen` is named `x`; there is a.sock, http",
            ),
            (
                "{port:a.sock}",
                "`{port:a.sock}`: the entry of `listen` named `a.sock` has no port",
            ),
        ] {
            assert_eq!(fill(text, &list, &port), Err(error.to_owned()));
        }
        assert_eq!(
            fill("{port}", &list[..1], &port),
            Err("`{port}`: no entry of `listen` has a port".to_owned())
        );
    }
}
