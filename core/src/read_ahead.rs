//! How much of a request's body is read at once.

/// What a client may read of a body before it sends the first attempt.
///
/// A body is the caller's code, and may be ready without end. Bytes are bounded so that no more is
/// kept than was agreed; frames are bounded so that one poll stays short, for a frame may be empty.
#[doc(hidden)]
#[derive(Debug)]
pub struct ReadAhead {
    limit: usize,
    bytes: usize,
    frames: usize,
}

/// How many frames are read in one poll.
const FRAMES: usize = 1024;

impl ReadAhead {
    /// Reads on until more than `limit` bytes are there.
    pub fn up_to(limit: usize) -> Self {
        Self { limit, bytes: 0, frames: 0 }
    }

    /// Whether one more frame may be read.
    pub fn goes_on(&self) -> bool {
        self.bytes <= self.limit && self.frames < FRAMES
    }

    /// A frame with so many bytes was read.
    pub fn took(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes);
        self.frames += 1;
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}
