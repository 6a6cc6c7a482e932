//! Whether a cluster can be reached.

/// What a producer knows about the way to its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Nothing was heard from it yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not, and why.
    Down(String),
}
