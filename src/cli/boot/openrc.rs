//! The text of an OpenRC init script.

use std::fmt::Write as _;

use crate::cli::boot::MARK;
use crate::cli::boot::place::Place;

/// Renders it. The keeper is not run by `supervise-daemon`: keeper and daemon restart each other, and a third one
/// that does the same would only find the place taken.
pub(super) fn render(place: &Place) -> String {
    let exe = place.exe.display();
    let mut env = String::new();
    for (name, value) in &place.env {
        let value = value.replace('\'', "'\\''");
        let _written = writeln!(env, "export {name}='{value}'");
    }
    let (whose, run) = match &place.user {
        Some(user) => (
            format!(" of {user}"),
            format!("su {user} -s /bin/sh -c \"'$command' $1\""),
        ),
        None => (String::new(), "\"$command\" \"$1\"".to_owned()),
    };
    format!(
        "#!/sbin/openrc-run
{MARK}
# Keeper and daemon restart each other; nothing else has to watch them.

description=\"clmgr process manager{whose}\"
command=\"{exe}\"
{env}
depend() {{
	need localmount
	after bootmisc net
	use net
}}

run() {{
	{run} >/dev/null
}}

start() {{
	ebegin \"Starting clmgr{whose}\"
	run resurrect
	eend $?
}}

stop() {{
	ebegin \"Stopping clmgr{whose} and its apps\"
	run kill
	eend $?
}}

status() {{
	if run ping 2>/dev/null; then
		einfo \"status: started\"
	else
		eerror \"status: stopped\"
		return 3
	fi
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::cli::boot::place::{Kind, Place};

    fn place(user: Option<&str>) -> Place {
        Place {
            kind: Kind::Openrc,
            path: "/x".into(),
            exe: "/usr/local/bin/clmgr".into(),
            user: user.map(ToOwned::to_owned),
            env: vec![("CLMGR_HOME", "/srv/it's".to_owned())],
        }
    }

    #[test]
    fn of_the_machine() {
        insta::assert_snapshot!(render(&place(None)));
    }

    #[test]
    fn of_a_user() {
        insta::assert_snapshot!(render(&Place {
            env: Vec::new(),
            ..place(Some("ann"))
        }));
    }

    #[test]
    fn is_plain_shell() {
        for user in [None, Some("ann")] {
            let (read, write) = std::io::pipe().unwrap();
            std::io::Write::write_all(&mut &write, render(&place(user)).as_bytes()).unwrap();
            drop(write);
            let checked = std::process::Command::new("sh").arg("-n").stdin(read).status().unwrap();
            assert!(checked.success());
        }
    }
}
