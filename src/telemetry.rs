//! Logs: to standard error, written by a thread of their own so that a slow terminal never holds up a node.

use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

use crate::cluster::LOG_FILTER;
use crate::config::LogConfig;

/// Always added to the filter, after [`LOG_FILTER`] of the cluster: these tell of their every start and step at info
/// level, which is ours to tell.
const PINNED: &str = "actix_server=warn,sea_orm_migration=warn,sqlx=warn";

/// Starts logging. What was logged is written out when the guard is dropped.
pub fn start(config: &LogConfig) -> anyhow::Result<WorkerGuard> {
    let mut filter = EnvFilter::try_new(&config.filter).map_err(|error| {
        anyhow::anyhow!("log.filter '{}' is not a filter such as \"info\": {error}", config.filter)
    })?;
    for pin in [LOG_FILTER, PINNED].into_iter().flat_map(|pins| pins.split(',')) {
        filter = filter.add_directive(pin.parse()?);
    }
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match config.format.as_str() {
        "json" => subscriber.json().try_init(),
        _ => subscriber.with_ansi(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging could not start: {error}"))?;
    Ok(guard)
}
