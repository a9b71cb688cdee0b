//! The rotation of indices.

/// The method by which new indices are created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// One index for ever.
    #[default]
    None,
    /// One index a day, by the event's time.
    Daily,
    /// One index a month, by the event's time.
    Monthly,
    /// An alias that moves to a new index when the current one is large or old.
    Rollover,
    /// A data stream.
    DataStream,
}

impl Rotation {
    /// All rotations, with their names on the command line.
    pub const ALL: [(&'static str, Self); 5] = [
        ("none", Self::None),
        ("daily", Self::Daily),
        ("monthly", Self::Monthly),
        ("rollover", Self::Rollover),
        ("data-stream", Self::DataStream),
    ];
}
