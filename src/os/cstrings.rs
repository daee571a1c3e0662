//! Lists of C strings in one buffer: arguments and environments on their way to `execve`.

use std::ffi::c_char;

/// Strings, each terminated by a NUL byte, one after another in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CStrings {
    bytes: Vec<u8>,
}

impl CStrings {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new() }
    }

    /// Takes a buffer in which every string is terminated by NUL (a missing last NUL is added).
    #[must_use]
    pub fn from_terminated(mut bytes: Vec<u8>) -> Self {
        if bytes.last().is_some_and(|last| *last != 0) {
            bytes.push(0);
        }
        Self { bytes }
    }

    /// Appends a string. What follows a NUL byte in it is dropped: no C string can hold it.
    pub fn push(&mut self, text: &[u8]) {
        self.push_parts(&[text]);
    }

    /// Appends one string made of several parts, such as `NAME`, `=` and a value.
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        for part in parts {
            if let Some(at) = part.iter().position(|byte| *byte == 0) {
                self.bytes.extend_from_slice(&part[..at]);
                break;
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
    }

    /// The buffer: every string terminated by NUL.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The strings, without their NUL.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let body = self.bytes.strip_suffix(&[0]).unwrap_or(&self.bytes);
        let count = if self.bytes.is_empty() { 0 } else { usize::MAX };
        body.split(|byte| *byte == 0).take(count)
    }

    /// The value of `name` in a list of `NAME=value` strings.
    #[must_use]
    pub fn value_of(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter()
            .find_map(|entry| entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")))
    }

    /// Pointers to the strings and a null pointer at the end, as `execve` wants them. They are valid as
    /// long as this list lives unchanged.
    #[must_use]
    pub fn pointers(&self) -> Vec<*const c_char> {
        let mut pointers = Vec::with_capacity(self.bytes.len() / 16 + 2);
        let mut begin = true;
        for byte in &self.bytes {
            if begin {
                pointers.push(std::ptr::from_ref(byte).cast::<c_char>());
            }
            begin = *byte == 0;
        }
        pointers.push(std::ptr::null());
        pointers
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for CStrings {
    fn from_iter<I: IntoIterator<Item = T>>(strings: I) -> Self {
        let mut list = Self::new();
        for string in strings {
            list.push(string.as_ref());
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::CStrings;

    #[test]
    fn keeps_empty_strings_and_cuts_at_nul() {
        let list: CStrings = ["a", "", "b\0c", "d"].into_iter().collect();
        assert_eq!(list.as_bytes(), b"a\0\0b\0d\0");
        assert_eq!(list.iter().collect::<Vec<_>>(), [b"a" as &[u8], b"", b"b", b"d"]);
        assert_eq!(list.pointers().len(), 5);
        assert!(list.pointers()[4].is_null());
    }

    #[test]
    fn nothing_is_nothing_and_one_empty_string_is_one() {
        assert_eq!(CStrings::new().iter().count(), 0);
        assert_eq!(CStrings::new().pointers().len(), 1);
        assert_eq!(CStrings::from_terminated(vec![0]).iter().count(), 1);
        assert_eq!(CStrings::from_terminated(b"x".to_vec()).as_bytes(), b"x\0");
    }

    #[test]
    fn finds_values_by_whole_name() {
        let list: CStrings = ["PATHX=1", "PATH=/bin", "PATH=/sbin"].into_iter().collect();
        assert_eq!(list.value_of(b"PATH"), Some(b"/bin" as &[u8]));
        assert_eq!(list.value_of(b"PAT"), None);
    }
}
