//! How values of the vocabulary look on the wire. Each module is the `with` of a field.

/// A [`Moment`](crate::model::time::Moment): nanoseconds.
pub(crate) mod moment {
    use minicbor::decode::{Decoder, Error as DecodeError};
    use minicbor::encode::{Encoder, Error as EncodeError, Write};

    use crate::model::time::Moment;

    pub(crate) fn encode<C, W: Write>(
        value: &Moment,
        to: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        to.u64(value.0)?.ok()
    }

    pub(crate) fn decode<C>(from: &mut Decoder<'_>, _: &mut C) -> Result<Moment, DecodeError> {
        from.u64().map(Moment)
    }
}

/// An [`Exit`](crate::model::exit::Exit): kind (0 code, 1 signal, 2 unknown), number, core, user ms,
/// system ms, bytes.
pub(crate) mod exit {
    use minicbor::decode::{Decoder, Error as DecodeError};
    use minicbor::encode::{Encoder, Error as EncodeError, Write};

    use crate::model::exit::{Exit, ExitStatus};

    pub(crate) fn encode<C, W: Write>(
        value: &Exit,
        to: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        let (kind, number) = match value.status {
            ExitStatus::Code(code) => (0, code),
            ExitStatus::Signal(signal) => (1, signal),
            ExitStatus::Unknown => (2, 0),
        };
        to.array(6)?.u8(kind)?.i32(number)?.bool(value.core)?;
        to.u64(value.user_ms)?.u64(value.system_ms)?.u64(value.max_rss)?.ok()
    }

    pub(crate) fn decode<C>(from: &mut Decoder<'_>, _: &mut C) -> Result<Exit, DecodeError> {
        let fields = from.array()?.filter(|fields| *fields >= 6);
        let fields = fields.ok_or_else(|| DecodeError::message("an exit has at least six fields"))?;
        let status = match (from.u8()?, from.i32()?) {
            (0, code) => ExitStatus::Code(code),
            (1, signal) => ExitStatus::Signal(signal),
            _ => ExitStatus::Unknown,
        };
        let exit = Exit {
            status,
            core: from.bool()?,
            user_ms: from.u64()?,
            system_ms: from.u64()?,
            max_rss: from.u64()?,
        };
        for _ in 6..fields {
            from.skip()?;
        }
        Ok(exit)
    }
}

/// A [`Step`](crate::os::spawn::Step): its number.
pub(crate) mod step {
    use minicbor::decode::{Decoder, Error as DecodeError};
    use minicbor::encode::{Encoder, Error as EncodeError, Write};

    use crate::os::spawn::Step;

    pub(crate) fn encode<C, W: Write>(
        value: &Step,
        to: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), EncodeError<W::Error>> {
        to.u8(value.code())?.ok()
    }

    pub(crate) fn decode<C>(from: &mut Decoder<'_>, _: &mut C) -> Result<Step, DecodeError> {
        // A newer keeper may know steps that we do not; that one failed is what matters.
        Ok(Step::from_code(from.u8()?).unwrap_or(Step::Plan))
    }
}
