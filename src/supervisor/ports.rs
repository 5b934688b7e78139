//! Free ports on loopback, below the range that the kernel gives to outgoing connections: between the look and the use
//! only another listener can take one.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::SupervisorError;

const FIRST: u16 = 15_000;
const COUNT: u16 = 15_000;

/// A port that nothing listens on, never the same twice in one process.
pub fn free_port() -> Result<u16, SupervisorError> {
    static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    for _ in 0..100 {
        let port = FIRST + random_u16() % COUNT;
        let fresh = GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port);
        if fresh && is_free(port) {
            return Ok(port);
        }
    }
    Err(SupervisorError::NoPort)
}

/// The wanted port if nothing listens on it, else another.
pub fn free_or_other(wanted: Option<u16>) -> Result<u16, SupervisorError> {
    match wanted {
        Some(port) if is_free(port) => Ok(port),
        _ => free_port(),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn random_u16() -> u16 {
    // Without a source of randomness the ports are merely tried in a fixed order.
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_or(0, |()| u16::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_port_is_kept_only_while_it_is_free() {
        let port = free_port().expect("a port");
        assert_eq!(free_or_other(Some(port)).expect("a port"), port);
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert_ne!(free_or_other(Some(port)).expect("a port"), port);
    }
}
