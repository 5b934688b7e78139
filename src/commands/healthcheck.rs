//! `clipstream healthcheck`: is the daemon on this machine alive? For container health checks, without curl in the image.

use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Args {
    /// The port that the daemon listens on
    #[arg(long, env = "API_PORT", default_value_t = 8000, value_name = "PORT")]
    port: u16,
}

/// Exit code 0 when `/livez` answers 200 within two seconds.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url = format!("http://127.0.0.1:{}/livez", args.port);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let alive = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
    if alive {
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("nothing alive answers at {url}; is `clipstream serve` running there?")
}
