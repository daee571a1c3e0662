//! The moments between two steps at which a test ends the pump's thread, as a kill of the process would. Outside
//! tests they are nothing. And those between two looks of a reader, at which a test changes what it looks at.

#[cfg(test)]
pub(in crate::logs) use imp::{at_each_look, end_at};
pub(in crate::logs) use imp::{look, pass, write};

#[cfg(not(test))]
mod imp {
    use std::fs::File;

    /// Between two steps.
    pub(in crate::logs) const fn pass() {}

    /// Between two looks of a reader.
    pub(in crate::logs) const fn look() {}

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
        static LOOK: Cell<Option<Box<dyn FnMut()>>> = const { Cell::new(None) };
    }

    /// Whenever a reader of this thread has looked at something, this happens before it looks again.
    pub(in crate::logs) fn at_each_look(happens: Option<Box<dyn FnMut()>>) {
        LOOK.set(happens);
    }

    /// Between two looks of a reader.
    pub(in crate::logs) fn look() {
        if let Some(mut happens) = LOOK.take() {
            happens();
            LOOK.set(Some(happens));
        }
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
