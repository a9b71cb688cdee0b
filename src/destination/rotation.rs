//! The rotation of indices.

/// How indices follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// One index for ever.
    #[default]
    None,
    /// One a day, by the event's time.
    Daily,
    /// One a month, by the event's time.
    Monthly,
    /// An alias whose index is followed by the next when it is large or old.
    Rollover,
    /// A data stream.
    DataStream,
}

impl Rotation {
    /// All of them, with their names on the command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("daily", Self::Daily),
        ("monthly", Self::Monthly),
        ("rollover", Self::Rollover),
        ("data-stream", Self::DataStream),
    ];
}
