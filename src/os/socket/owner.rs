//! Who owns the file of a Unix socket.

use std::io;
use std::path::Path;

use nix::unistd::{Gid, Group, Uid, User};

use crate::model::listen::ListenSpec;

/// Whom to give it to; `None`: as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    user: Option<Uid>,
    group: Option<Gid>,
}

impl Owner {
    /// Finds the numbers of names.
    ///
    /// # Errors
    /// `InvalidInput`: there is no such user or group.
    pub(super) fn of(spec: &ListenSpec) -> io::Result<Self> {
        let user = spec.owner.as_deref().map(|name| {
            let known = User::from_name(name)?.map(|user| user.uid);
            known
                .or_else(|| name.parse().ok().map(Uid::from_raw))
                .ok_or_else(|| nobody("user", name))
        });
        let group = spec.group.as_deref().map(|name| {
            let known = Group::from_name(name)?.map(|group| group.gid);
            known
                .or_else(|| name.parse().ok().map(Gid::from_raw))
                .ok_or_else(|| nobody("group", name))
        });
        Ok(Self {
            user: user.transpose()?,
            group: group.transpose()?,
        })
    }

    /// Gives a file away.
    ///
    /// # Errors
    /// As `chown`, in words for people.
    pub(super) fn give(self, path: &Path) -> io::Result<()> {
        if self.user.is_none() && self.group.is_none() {
            return Ok(());
        }
        nix::unistd::chown(path, self.user, self.group).map_err(|errno| {
            if errno != nix::errno::Errno::EPERM {
                return errno.into();
            }
            let text = "only root may give the socket's file to another `owner`, or to a `group` that it is not in";
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })
    }
}

fn nobody(what: &str, name: &str) -> io::Error {
    let text = format!("this machine has no {what} {name:?}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::Owner;
    use crate::model::listen::ListenSpec;
    use nix::unistd::{Gid, Uid};

    fn spec(owner: Option<&str>, group: Option<&str>) -> ListenSpec {
        let mut spec = ListenSpec::new("unix:/run/a.sock".parse().unwrap());
        spec.owner = owner.map(str::to_owned);
        spec.group = group.map(str::to_owned);
        spec
    }

    #[test]
    fn names_and_numbers_are_found() {
        let owner = Owner::of(&spec(Some("root"), Some("12345"))).unwrap();
        assert_eq!(owner.user, Some(Uid::from_raw(0)));
        assert_eq!(owner.group, Some(Gid::from_raw(12345)));
        for (owner, group, what) in [
            (Some("no-such-user"), None, "no user \"no-such-user\""),
            (None, Some("no-such-group"), "no group \"no-such-group\""),
        ] {
            let error = Owner::of(&spec(owner, group)).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn a_file_is_given_to_oneself() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (uid, gid) = (Uid::effective().to_string(), Gid::effective().to_string());
        Owner::of(&spec(Some(&uid), Some(&gid)))
            .unwrap()
            .give(file.path())
            .unwrap();
        Owner::of(&spec(None, None)).unwrap().give("/nowhere".as_ref()).unwrap();
    }
}
