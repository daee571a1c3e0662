//! Which files a request may name.

use std::path::{Component, Path, PathBuf};

/// The percent-decoded bytes of a path; none if an escape is cut off or no hexadecimal number.
fn decode(path: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(bytes)
}

/// True if what `path` (of a URL) names under `root` may be sent: nothing above the root, nothing hidden
/// (but `.well-known`), and no link that leads out. A path that names nothing may pass: it ends as 404.
pub(super) fn may_pass(root: &Path, path: &str) -> bool {
    use std::os::unix::ffi::OsStringExt;
    let Some(bytes) = decode(path).filter(|bytes| !bytes.contains(&0)) else {
        return false;
    };
    let relative = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let mut inside = PathBuf::new();
    for component in relative.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return false,
            Component::Normal(name) => {
                if name.as_encoded_bytes().starts_with(b".") && name != ".well-known" {
                    return false;
                }
                inside.push(name);
            }
        }
    }
    leads_inside(root, &root.join(&inside)) && leads_inside(root, &root.join(inside).join("index.html"))
}

/// The file, with every link followed, is under the root, or there is none.
fn leads_inside(root: &Path, file: &Path) -> bool {
    file.canonicalize().map_or(true, |file| file.starts_with(root))
}
