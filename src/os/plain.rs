//! Finds out at once that nothing in many lines has to be escaped.
//!
//! Nearly all of what apps write is plain. Looking at 16 bytes at a time makes the question cost next to nothing,
//! which matters for the JSON records of an app that floods its log.

/// Whether a JSON string may have all of this as it stands, but for the newlines: ASCII, no control character, no
/// quote and no backslash.
#[must_use]
pub fn is_plain(text: &[u8]) -> bool {
    let (chunks, rest) = text.as_chunks::<16>();
    chunks_are_plain(chunks) && rest.iter().all(|byte| byte_is_plain(*byte))
}

const fn byte_is_plain(byte: u8) -> bool {
    matches!(byte, b'\n' | 0x20..=0x7f) && byte != b'"' && byte != b'\\'
}

#[cfg(target_arch = "x86_64")]
fn chunks_are_plain(chunks: &[[u8; 16]]) -> bool {
    // SAFETY: SSE2 is part of this architecture.
    unsafe { wide(chunks) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn wide(chunks: &[[u8; 16]]) -> bool {
    use std::arch::x86_64::{
        __m128i, _mm_andnot_si128, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };
    let [newline, quote, backslash, space] = [b'\n', b'"', b'\\', b' '].map(|byte| _mm_set1_epi8(byte.cast_signed()));
    chunks.iter().all(|chunk| {
        // SAFETY: these 16 bytes may be read, and need no alignment.
        let bytes = unsafe { _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>()) };
        // Signed: what is no ASCII is less than zero.
        let control = _mm_andnot_si128(_mm_cmpeq_epi8(bytes, newline), _mm_cmplt_epi8(bytes, space));
        let marks = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        _mm_movemask_epi8(_mm_or_si128(control, marks)) == 0
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn chunks_are_plain(chunks: &[[u8; 16]]) -> bool {
    chunks
        .as_flattened()
        .iter()
        .fold(true, |plain, byte| plain & byte_is_plain(*byte))
}

#[cfg(test)]
mod tests {
    use super::{byte_is_plain, is_plain};

    #[test]
    fn sees_each_byte_at_each_place() {
        for byte in 0..=255 {
            let plain = byte == b'\n' || ((0x20..0x80).contains(&byte) && byte != b'"' && byte != b'\\');
            assert_eq!(byte_is_plain(byte), plain, "{byte}");
            for length in [1, 16, 17, 40] {
                for at in 0..length {
                    let mut text = vec![b'a'; length];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), plain, "{byte} at {at} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }
}
