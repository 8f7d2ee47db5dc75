//! One value on its way into a table.

use crate::schema::ValueType;

/// One value of a row; made by `.into()` or by [`crate::row!`].
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Undefined.
    Null,
    /// Text.
    Text(String),
    /// Integer.
    Int(i64),
    /// Unsigned integer; refused by a table if it exceeds `i64::MAX`.
    UInt(u64),
    /// Float; refused by a table if it isn't finite.
    Float(f64),
    /// Boolean.
    Bool(bool),
}

impl Cell {
    /// The cell as a message shows it: type and value.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) => format!("{} {text:?}", ValueType::Text.name()),
            Self::Int(value) => format!("{} {value}", ValueType::Int.name()),
            Self::UInt(value) => format!("{} {value}", ValueType::Int.name()),
            Self::Float(value) => format!("{} {value:?}", ValueType::Float.name()),
            Self::Bool(value) => format!("{} {value}", ValueType::Bool.name()),
        }
    }
}

/// A row of cells from plain values: `row!["base", 3, 0.5, None::<f64>]`.
#[macro_export]
macro_rules! row {
    ($($value:expr),* $(,)?) => { [$($crate::Cell::from($value)),*] };
}

macro_rules! cell_from {
    ($($from:ty => |$value:ident| $cell:expr;)*) => {
        $(impl From<$from> for Cell {
            fn from($value: $from) -> Self { $cell }
        })*
    };
}

cell_from! {
    &str => |value| Self::Text(value.to_owned());
    String => |value| Self::Text(value);
    &String => |value| Self::Text(value.clone());
    i64 => |value| Self::Int(value);
    i32 => |value| Self::Int(i64::from(value));
    u32 => |value| Self::Int(i64::from(value));
    u64 => |value| Self::UInt(value);
    usize => |value| Self::UInt(value as u64);
    f64 => |value| Self::Float(value);
    f32 => |value| Self::Float(f64::from(value));
    bool => |value| Self::Bool(value);
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
