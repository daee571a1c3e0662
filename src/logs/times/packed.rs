//! A log becomes a compressed file: so does its index.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::logs::times::index::{Id, Index, id_of, remove};

/// Where the indexes are, for threads that are there before it is known.
pub type Folder = Arc<OnceLock<Box<Path>>>;

/// So many entries are copied at once.
const BLOCK: usize = 4096;

/// The compressed file `copy` has the text of the file with this device and inode, and is about to take its place.
/// Without an index there is nothing to do; one that cannot be written is missing.
pub fn packed(folder: &Path, original: Id, copy: &File) {
    let Some(index) = Index::open(folder, original, false) else {
        return;
    };
    if !index.header.is_packed() && take_over(folder, &index, copy).is_err() {
        let _gone = copy.metadata().map(|meta| remove(folder, id_of(&meta)));
    }
    remove(folder, original);
}

fn take_over(folder: &Path, index: &Index, copy: &File) -> io::Result<()> {
    let mut new = Index::create(folder, index.header.packed(&copy.metadata()?))?;
    while new.count < index.count {
        let entries = index.read(new.count, BLOCK)?;
        if entries.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        new.put(new.count, &entries)?;
    }
    Ok(())
}
