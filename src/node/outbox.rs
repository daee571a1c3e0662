//! Lines that wait to be written to a channel. After a line with a descriptor nothing follows until the other side
//! has said that it arrived (Node takes one at a time); only what answers *its* descriptors passes.

use std::collections::VecDeque;

/// Most lines that wait; more are refused, so that a worker that reads nothing costs no memory.
pub const MAX_WAITING: usize = 4096;
/// Most bytes that wait.
pub const MAX_BYTES: usize = 4 << 20;
/// How often a descriptor that was lost on the way is sent again.
const ATTEMPTS: u32 = 3;

/// One line.
#[derive(Debug)]
pub struct Item<H> {
    /// With its end.
    pub line: Vec<u8>,
    /// What goes with its first byte.
    pub handle: Option<H>,
    /// Where in the incoming stream the line begins that this one answers.
    pub origin: Option<u64>,
    written: usize,
    attempts: u32,
}

impl<H> Item<H> {
    /// A line, perhaps with a descriptor.
    #[must_use]
    pub const fn new(line: Vec<u8>, handle: Option<H>, origin: Option<u64>) -> Self {
        Self {
            line,
            handle,
            origin,
            written: 0,
            attempts: 0,
        }
    }
}

/// What waits for one channel.
#[derive(Debug)]
pub struct Outbox<H> {
    urgent: VecDeque<Vec<u8>>,
    items: VecDeque<Item<H>>,
    bytes: usize,
    /// Written, not known to have arrived.
    flying: Option<Item<H>>,
}

impl<H> Default for Outbox<H> {
    fn default() -> Self {
        Self {
            urgent: VecDeque::new(),
            items: VecDeque::new(),
            bytes: 0,
            flying: None,
        }
    }
}

/// What is to be written next: bytes, and a descriptor with the first of them.
#[derive(Debug)]
pub struct Next<'a, H> {
    /// The rest of a line.
    pub bytes: &'a [u8],
    /// With the first byte of a line only.
    pub handle: Option<&'a H>,
}

impl<H> Outbox<H> {
    /// Adds a line at the end; false when there are too many.
    #[must_use]
    pub fn push(&mut self, item: Item<H>) -> bool {
        if self.items.len() >= MAX_WAITING || self.bytes + item.line.len() > MAX_BYTES {
            return false;
        }
        self.bytes += item.line.len();
        self.items.push_back(item);
        true
    }

    /// Adds a line that does not wait for descriptors to arrive.
    pub fn push_urgent(&mut self, line: Vec<u8>) {
        // Each stands for a descriptor that the app has sent; one that sends thousands without reading waits for none.
        if self.urgent.len() < MAX_WAITING {
            self.urgent.push_back(line);
        }
    }

    /// What may be written now.
    #[must_use]
    pub fn next(&self) -> Option<Next<'_, H>> {
        // A line is not interrupted.
        let begun = self.items.front().filter(|item| item.written > 0);
        if let (None, Some(line)) = (begun, self.urgent.front()) {
            return Some(Next {
                bytes: line,
                handle: None,
            });
        }
        if self.flying.is_some() {
            return None;
        }
        let item = self.items.front()?;
        Some(Next {
            bytes: item.line.get(item.written..).unwrap_or_default(),
            handle: item.handle.as_ref().filter(|_| item.written == 0),
        })
    }

    /// So many bytes of [`Outbox::next`] were written.
    pub fn wrote(&mut self, count: usize) {
        let begun = self.items.front().is_some_and(|item| item.written > 0);
        if !begun && let Some(line) = self.urgent.front_mut() {
            line.drain(..count.min(line.len()));
            if line.is_empty() {
                self.urgent.pop_front();
            }
            return;
        }
        let Some(item) = self.items.front_mut() else { return };
        item.written += count;
        if item.written < item.line.len() {
            return;
        }
        if let Some(mut item) = self.items.pop_front() {
            self.bytes -= item.line.len();
            if item.handle.is_some() {
                item.written = 0;
                item.attempts += 1;
                self.flying = Some(item);
            }
        }
    }

    /// The descriptor has arrived.
    pub fn arrived(&mut self) {
        self.flying = None;
    }

    /// It was lost: it goes again, a few times.
    pub fn lost(&mut self) {
        if let Some(item) = self.flying.take().filter(|item| item.attempts < ATTEMPTS) {
            self.bytes += item.line.len();
            self.items.push_front(item);
        }
    }

    /// Where the first line of the incoming stream begins whose answer is not written yet.
    #[must_use]
    pub fn first_origin(&self) -> Option<u64> {
        self.items.iter().filter_map(|item| item.origin).min()
    }

    /// Waits for something to arrive, not for room.
    #[must_use]
    pub const fn is_held_back(&self) -> bool {
        self.flying.is_some()
    }

    /// Forgets everything: nobody reads any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{Item, MAX_WAITING, Outbox};

    /// Writes what may be written, all of it, and says what that was.
    fn write(outbox: &mut Outbox<u8>) -> String {
        let mut text = String::new();
        while let Some(next) = outbox.next() {
            text.push_str(std::str::from_utf8(next.bytes).unwrap());
            if let Some(handle) = next.handle {
                text.push_str(&format!("+{handle}"));
            }
            let count = next.bytes.len();
            outbox.wrote(count);
        }
        text
    }

    fn item(line: &str, handle: Option<u8>, origin: Option<u64>) -> Item<u8> {
        Item::new(line.as_bytes().to_vec(), handle, origin)
    }

    #[test]
    fn lines_wait_for_the_descriptor_before_them() {
        let mut outbox = Outbox::default();
        for (line, handle) in [("a", None), ("b", Some(1)), ("c", None), ("d", Some(2)), ("e", None)] {
            assert!(outbox.push(item(line, handle, None)));
        }
        assert_eq!(write(&mut outbox), "ab+1");
        outbox.push_urgent(b"!".to_vec());
        assert_eq!(write(&mut outbox), "!");
        assert!(outbox.is_held_back());
        outbox.arrived();
        assert_eq!(write(&mut outbox), "cd+2");
        outbox.arrived();
        assert_eq!(write(&mut outbox), "e");
        outbox.arrived();
        assert_eq!((write(&mut outbox), outbox.bytes), (String::new(), 0));
    }

    #[test]
    fn a_lost_descriptor_goes_again_a_few_times() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(item("a", Some(1), None)) && outbox.push(item("b", None, None)));
        for _ in 0..3 {
            assert_eq!(write(&mut outbox), "a+1");
            outbox.lost();
        }
        assert_eq!(write(&mut outbox), "b");
    }

    #[test]
    fn a_line_is_not_interrupted_and_its_descriptor_goes_once() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(item("abc", Some(1), None)));
        assert_eq!(outbox.next().and_then(|next| next.handle.copied()), Some(1));
        outbox.wrote(1);
        outbox.push_urgent(b"!".to_vec());
        let next = outbox.next().unwrap();
        assert_eq!((next.bytes, next.handle), (&b"bc"[..], None));
        outbox.wrote(2);
        assert_eq!(write(&mut outbox), "!");
    }

    #[test]
    fn it_is_bounded_and_knows_what_is_unanswered() {
        let mut outbox = Outbox::default();
        assert!(outbox.push(item("a", None, Some(5))) && outbox.push(item("b", None, Some(9))));
        assert_eq!(outbox.first_origin(), Some(5));
        outbox.wrote(1);
        assert_eq!(outbox.first_origin(), Some(9));
        for _ in 1..MAX_WAITING {
            assert!(outbox.push(item("x", None, None)));
        }
        assert!(!outbox.push(item("x", None, None)));
        outbox.clear();
        assert!(outbox.next().is_none() && outbox.push(item("x", None, None)));
    }
}
