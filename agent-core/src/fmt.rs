//! Log lines: to the `log` facade, to defmt, to both or to nobody. Arguments are texts and numbers, which both can show.

/// Something an operator should look at.
macro_rules! warn {
    ($text:literal $(, $arg:expr)* $(,)?) => {{
        #[cfg(feature = "log")]
        ::log::warn!($text $(, $arg)*);
        #[cfg(feature = "defmt")]
        ::defmt::warn!($text $(, $arg)*);
        #[cfg(not(any(feature = "log", feature = "defmt")))]
        let _ = ($(&$arg,)*);
    }};
}

/// Something that happened as it should.
macro_rules! info {
    ($text:literal $(, $arg:expr)* $(,)?) => {{
        #[cfg(feature = "log")]
        ::log::info!($text $(, $arg)*);
        #[cfg(feature = "defmt")]
        ::defmt::info!($text $(, $arg)*);
        #[cfg(not(any(feature = "log", feature = "defmt")))]
        let _ = ($(&$arg,)*);
    }};
}
