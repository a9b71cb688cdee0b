//! `pixel dashboards`, and the import that `pixel setup --dashboards` asks for.

use super::{WrongArguments, connect};
use crate::cli::saved_objects::{INDEX_PATTERN, ndjson, objects};
use crate::client::http::http_client;
use crate::config::Config;
use crate::destination::Auth;
use crate::destination::opensearch::Target;
use crate::setup::dashboards::session::{ImportOptions, OnConflict, import};
use crate::setup::dashboards::{EXAMPLES, Place, place};
use crate::setup::plan::Plan;
use crate::setup::run::Step;
use crate::terminal::print;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The indices that the dashboards read
    #[arg(long, value_name = "NAME", default_value = INDEX_PATTERN, value_parser = index_pattern)]
    index_pattern: String,
}

/// Prints the saved objects.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let objects = ndjson(&arguments.index_pattern).map_err(anyhow::Error::from_boxed)?;
    print(objects.trim_end())
}

/// The options for importing the dashboards.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Import the dashboards into this OpenSearch Dashboards or Kibana, as in `https://user:password@host:5601`. Without a
    /// user, the destination's credentials are sent if it is on the same host and over https or loopback
    #[arg(long, value_name = "URL")]
    dashboards: Option<String>,
    /// The tenant of OpenSearch Dashboards, as in `global` [default: the user's own]
    #[arg(long, value_name = "NAME", requires = "dashboards")]
    tenant: Option<String>,
    /// The space of Kibana [default: Kibana's default]
    #[arg(long, value_name = "NAME", requires = "dashboards", value_parser = space)]
    space: Option<String>,
    /// Send the destination's credentials to its host's --dashboards address even over plain http
    #[arg(long, requires = "dashboards")]
    plain_http_credentials: bool,
    /// Replace dashboards that already exist and were changed
    #[arg(long, requires = "dashboards")]
    overwrite: bool,
    /// The indices that the dashboards read [default: the destination's name and `*`]
    #[arg(long, value_name = "NAME", requires = "dashboards", value_parser = index_pattern)]
    index_pattern: Option<String>,
}

fn index_pattern(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("give the indices' names, as in `events*`".to_owned());
    }
    Ok(text.to_owned())
}

fn space(text: &str) -> Result<String, String> {
    let fits =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "-_".contains(character);
    if !text.is_empty() && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("give the space's identifier, as its URL has it: a-z, 0-9, - and _".to_owned())
    }
}

impl Import {
    /// Returns true if an import is requested.
    pub(super) const fn is_wanted(&self) -> bool {
        self.dashboards.is_some()
    }

    /// Returns the place to import to, if an import is requested.
    pub(super) fn place(&self, target: &Target) -> Result<Option<Place>, WrongArguments> {
        let Some(url) = &self.dashboards else { return Ok(None) };
        let found = place(url, target, self.plain_http_credentials).map(Some);
        found.ok_or_else(|| WrongArguments(format!("`--dashboards` is not an address; give one as in {EXAMPLES}")))
    }

    /// Imports the dashboards; without `write`, only reports what would be done.
    pub(super) async fn run(&self, place: Place, config: &Config, plan: &Plan, write: bool) -> anyhow::Result<Step> {
        let Place { base, auth, withheld } = place;
        let pattern = self.index_pattern.clone().unwrap_or_else(|| format!("{}*", plan.base));
        let objects = objects(&pattern).map_err(anyhow::Error::from_boxed)?;
        let credentials = match auth {
            Auth::SigV4 { .. } => Some(connect::credentials().await?),
            _ => None,
        };
        let http = http_client(config.ca_file.as_deref(), &config.timing).map_err(anyhow::Error::from_boxed)?;
        let options = ImportOptions {
            base,
            auth,
            withheld,
            tenant: self.tenant.clone(),
            space: self.space.clone(),
            differing: if self.overwrite {
                OnConflict::Replace
            } else {
                OnConflict::Refuse
            },
            write,
        };
        Ok(import(&http, credentials.as_ref(), &options, &objects).await?)
    }
}
