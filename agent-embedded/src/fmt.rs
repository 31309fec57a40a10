//! Log lines: defmt with the feature, nothing without it.

/// `log!(info, "format", value, …)`. The values count as used either way.
macro_rules! log {
    ($level:ident, $text:literal $(, $value:expr)* $(,)?) => {{
        #[cfg(feature = "defmt")]
        defmt::$level!($text $(, $value)*);
        #[cfg(not(feature = "defmt"))]
        { $(let _ = &$value;)* }
    }};
}
pub(crate) use log;
