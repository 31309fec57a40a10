//! The settings page, read in place.

use agent_embedded::provision::{Network, Settings};
use embassy_net::{Config, Ipv4Cidr, StaticConfigV4};
use static_cell::StaticCell;

unsafe extern "C" {
    // Addresses only, from memory.x.
    static _settings_start: u8;
    static _settings_end: u8;
}

/// The board's settings; the defaults when the page has none.
///
/// # Panics
/// When called twice.
pub fn load() -> &'static Settings<'static> {
    static SETTINGS: StaticCell<Settings<'static>> = StaticCell::new();
    // SAFETY: the linker script keeps these octets of flash free of everything else, and nothing writes flash.
    let page = unsafe {
        let start = &raw const _settings_start;
        core::slice::from_raw_parts(start, (&raw const _settings_end).addr() - start.addr())
    };
    let settings = Settings::decode(page).unwrap_or_else(|_why| {
        #[cfg(feature = "log")]
        crate::log::log!(warn, "default settings: {}", defmt::Display2Format(&_why));
        Settings::default()
    });
    SETTINGS.init(settings)
}

/// The network part, as embassy-net wants it.
pub fn network(settings: &Settings<'_>) -> Config {
    match settings.network {
        Network::Dhcp => Config::dhcpv4(Default::default()),
        Network::Static { address, prefix, gateway, dns } => Config::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(address.into(), prefix.min(32)),
            gateway: gateway.map(Into::into),
            dns_servers: dns.map(Into::into).into_iter().collect(),
        }),
    }
}
