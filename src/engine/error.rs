//! What can be wrong with a call to the engine. No error changes a stream: the call did nothing.

use super::InstructionSet;

/// A call to the engine that cannot be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The number of levels is not one of the model's.
    #[error("{given} levels were asked for, but this model has 1 to {most}")]
    Levels {
        /// Levels asked for.
        given: usize,
        /// Levels of the model.
        most: usize,
    },
    /// A code is not in its level's codebook.
    #[error(
        "the code {code} at place {place} is not in the codebook of {size}; is this the model that made it?"
    )]
    Code {
        /// The code.
        code: u16,
        /// Where it is in the slice given.
        place: usize,
        /// Codes in the codebook.
        size: usize,
    },
    /// Codes that are no whole number of steps.
    #[error("{given} codes are no whole number of steps of {per_step} codes each")]
    PartialStep {
        /// Codes given.
        given: usize,
        /// Codes of a step with the levels asked for.
        per_step: usize,
    },
    /// There is no room for what this call may have to give.
    #[error("the output has room for {given} values, but at least {needed} are needed")]
    OutputTooSmall {
        /// Room in the slice given.
        given: usize,
        /// The least that this call needs.
        needed: usize,
    },
    /// The number of channels is not that of the stream.
    #[error("{given} channels were given to a stream of {expected}")]
    Channels {
        /// Channels given.
        given: usize,
        /// Channels of the stream.
        expected: usize,
    },
    /// Channels that are not all of one length.
    #[error("the channels are not all of one length: give each as many values")]
    ChannelLengths,
    /// A step was begun while another is being computed.
    #[error("a step is being computed: advance it to its end and take what it gives first")]
    Busy,
    /// A step cannot begin before its chunk is full, and nothing can be taken before a step is done.
    #[error("there is no complete step yet: {0}")]
    NotReady(&'static str),
    /// This CPU lacks an instruction set.
    #[error("this CPU does not have {0:?}")]
    Unavailable(InstructionSet),
}

/// An error unless an output has room for `needed` values.
pub(super) fn check_room(given: usize, needed: usize) -> Result<(), EngineError> {
    if given < needed { Err(EngineError::OutputTooSmall { given, needed }) } else { Ok(()) }
}
