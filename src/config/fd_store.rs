//! `fd_store`.

use crate::config::fields::Fields;
use crate::config::listen::Listen;
use crate::model::listen::{FIRST_FD, next_number};
use crate::model::spec::Ready;

/// Most descriptors of one instance: with its sockets they must fit one message to the keeper.
pub(super) const MAX_FD_STORE: f64 = 200.0;
/// What fits such a message.
const TOGETHER: usize = 240;

/// Reads it. The numbers of what is stored come after those of the sockets.
pub(super) fn fd_store(fields: &Fields<'_>, listen: &Listen, ready: &Ready) -> u32 {
    let Some(entry) = fields.get("fd_store") else { return 0 };
    let reader = fields.reader;
    let Some(number) = reader.number("fd_store", &entry.node, 0.0, MAX_FD_STORE) else {
        return 0;
    };
    if number.fract() != 0.0 {
        let message = format!("`fd_store` must be a whole number, not {number}");
        reader.bad("fd_store", &entry.node.span, message);
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number from 0 to 200"
    )]
    let count = number as u32;
    let sockets = listen.list.len();
    let all = sockets + usize::try_from(count).unwrap_or(0);
    if all > TOGETHER {
        let message =
            format!("`fd_store = {count}` and {sockets} sockets are too many together; {TOGETHER} are possible");
        reader.bad("fd_store", &entry.node.span, message);
    }
    let end = next_number(&listen.list) + i32::try_from(count).unwrap_or(0);
    if let Ready::Fd(number) = ready
        && count > 0
        && (FIRST_FD..end).contains(number)
    {
        let last = end - 1;
        let message = format!(
            "`ready = \"fd:{number}\"` is one of the numbers {FIRST_FD} to {last} that sockets and stored descriptors have"
        );
        reader.bad("fd_store", &entry.node.span, message);
    }
    count
}
