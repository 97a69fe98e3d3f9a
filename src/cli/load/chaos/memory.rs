//! The trial of a stopped peer: one node stands still, messages addressed to it go on, and the others must not grow.

use std::path::PathBuf;

use super::ChaosArgs;

/// Placeholder.
pub async fn run(_args: ChaosArgs, _json: Option<PathBuf>) -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
