//! The moments between two steps at which a test ends the pump's thread, as a kill of the process would. Outside
//! tests they are nothing.

#[cfg(test)]
pub(in crate::logs) use imp::end_at;
pub(in crate::logs) use imp::{pass, write};

#[cfg(not(test))]
mod imp {
    use std::fs::File;

    /// Between two steps.
    pub(in crate::logs) const fn pass() {}

    /// Inside a write of these bytes at this offset.
    pub(in crate::logs) const fn write(_: &File, _: &[u8], _: u64) {}
}

#[cfg(test)]
mod imp {
    use std::cell::Cell;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    thread_local! {
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// This thread ends at the moment with this number, from 0.
    pub(in crate::logs) fn end_at(number: u64) {
        LEFT.set(Some(number));
    }

    fn is_last() -> bool {
        let left = LEFT.get();
        LEFT.set(left.and_then(|left| left.checked_sub(1)));
        left == Some(0)
    }

    /// Between two steps.
    pub(in crate::logs) fn pass() {
        if is_last() {
            std::panic::resume_unwind(Box::new("killed"));
        }
    }

    /// Inside a write of these bytes at this offset: some of them are in the file.
    pub(in crate::logs) fn write(file: &File, bytes: &[u8], at: u64) {
        pass();
        if is_last() {
            file.write_all_at(&bytes[..bytes.len() / 2], at).unwrap();
            std::panic::resume_unwind(Box::new("killed"));
        }
    }
}
