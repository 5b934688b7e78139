//! Landlock: no path can be opened, made, changed or removed. It also denies TCP, and signals and abstract sockets that
//! lead out of the cage, as far as the kernel's version of it goes.

use landlock::{
    ABI, Access, AccessFs, AccessNet, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetError, RulesetStatus, Scope,
};

/// What an older kernel does not know of it, it leaves out by itself.
const NEWEST: ABI = ABI::V10;

/// The version that is enforced from here on.
pub(super) fn close() -> Result<u32, String> {
    let status = restrict().map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotImplemented) => {
            Err("this kernel has no Landlock".into())
        }
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("Landlock is switched off".into())
        }
        (RulesetStatus::NotEnforced, LandlockStatus::Available { .. }) => {
            Err("Landlock is there and was not enforced".into())
        }
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => {
            Err("Landlock says that it is enforced and not there".into())
        }
    }
}

fn restrict() -> Result<RestrictionStatus, RulesetError> {
    Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()
}
