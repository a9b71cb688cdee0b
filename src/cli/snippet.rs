//! `pixel snippet`

use std::io::Write;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde_json::json;

use super::public_url;
use crate::api::snippet::{Form, Target, lines, warn_of_tag};
use crate::terminal::{json_line, print_message, printable};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The languages or places to print lines for; without one, all of them
    #[arg(value_name = "FORM", value_parser = form())]
    forms: Vec<Form>,
    /// The URL at which visitors reach the pixel, as in `https://pixel.example/prod`
    /// [default: `$PIXEL_PUBLIC_URL`, else `http://127.0.0.1:8080`]
    #[arg(long, short, value_name = "URL", value_parser = public_url::parse)]
    url: Option<String>,
    /// A code that distinguishes this pixel from others; `pixel code new` makes signed ones
    #[arg(long, short, value_parser = text)]
    code: Option<String>,
    /// The campaign as a UTM parameter (`utm_campaign`); to sign it into the code use `pixel code new --campaign`
    #[arg(long, value_name = "NAME")]
    campaign: Option<String>,
    /// The source of the campaign (`utm_source`), as in `newsletter`
    #[arg(long, value_name = "NAME")]
    campaign_source: Option<String>,
    /// The medium of the campaign (`utm_medium`), as in `email`
    #[arg(long, value_name = "NAME")]
    campaign_medium: Option<String>,
    /// The paid search terms (`utm_term`)
    #[arg(long, value_name = "WORDS")]
    campaign_term: Option<String>,
    /// The variant of the content (`utm_content`)
    #[arg(long, value_name = "NAME")]
    campaign_content: Option<String>,
    /// An additional parameter; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    parameter: Vec<(String, String)>,
    /// A parameter whose value a mail program or tag manager replaces, as in `userid=*|UNIQID|*`; it is not percent-encoded
    #[arg(long, value_name = "NAME=TAG", value_parser = pair)]
    merge: Vec<(String, String)>,
    /// Print JSON, one snippet per line
    #[arg(long)]
    json: bool,
}

fn form() -> impl TypedValueParser<Value = Form> {
    PossibleValuesParser::new(Form::ALL.map(Form::name)).map(|given| {
        Form::ALL
            .into_iter()
            .find(|form| form.name() == given)
            .unwrap_or(Form::Html)
    })
}

fn text(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "give a text without control characters".to_owned())
}

fn pair(given: &str) -> Result<(String, String), String> {
    let given = text(given)?;
    let found = given.split_once('=').filter(|(name, _)| !name.is_empty());
    found
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "give a name and a value with `=` between them".to_owned())
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let target = target(arguments)?;
    let forms = if arguments.forms.is_empty() {
        &Form::ALL
    } else {
        arguments.forms.as_slice()
    };
    if forms.contains(&Form::Amp) && !target.base.starts_with("https:") {
        print_message("AMP takes https only; give the public URL with `--url`");
    }
    for (_, tag) in &arguments.merge {
        if let Some(warning) = warn_of_tag(tag) {
            print_message(&printable(&warning, 600));
        }
    }
    let mut out = std::io::stdout().lock();
    for (place, form) in forms.iter().enumerate() {
        let lines = lines(*form, &target);
        let written = if arguments.json {
            let line = json!({"form": form.name(), "place": form.place(), "lines": lines});
            writeln!(out, "{}", json_line(&line))
        } else if let [_] = forms {
            writeln!(out, "{lines}")
        } else {
            let gap = if place > 0 { "\n" } else { "" };
            writeln!(out, "{gap}# {}: {}\n{lines}", form.name(), form.place())
        };
        match written {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot print")?,
        }
    }
    Ok(())
}

fn target(arguments: &Arguments) -> anyhow::Result<Target> {
    let base = public_url::find(arguments.url.as_ref())?.unwrap_or_else(|| {
        print_message(
            "note: these lines work on this machine only; give the public URL with `--url` or `PIXEL_PUBLIC_URL`",
        );
        "http://127.0.0.1:8080".to_owned()
    });
    let campaign = [
        ("utm_source", &arguments.campaign_source),
        ("utm_medium", &arguments.campaign_medium),
        ("utm_campaign", &arguments.campaign),
        ("utm_term", &arguments.campaign_term),
        ("utm_content", &arguments.campaign_content),
    ];
    let campaign = campaign
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    Ok(Target {
        base,
        code: arguments.code.clone(),
        parameters: campaign.chain(arguments.parameter.iter().cloned()).collect(),
        merged: arguments.merge.clone(),
    })
}
