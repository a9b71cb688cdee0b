//! A request that is being built, and what CDN and API Gateway add to it.

use std::net::IpAddr;

use super::people::Person;
use super::random::Random;
use crate::hit::request::passthrough::CONTEXT;
use crate::hit::request::{Ingress, Pairs, Request};

/// The request of a visitor's software, and what is known of its network.
#[derive(Debug)]
pub(super) struct Draft {
    /// `GET` or `HEAD`.
    pub(super) method: &'static str,
    /// The path template of the API.
    pub(super) resource: &'static str,
    /// The value of the template's `{code}`.
    pub(super) code: Option<String>,
    /// The query, in any order.
    pub(super) query: Pairs,
    /// The headers that differ between programs, with names in lower case, in any order.
    pub(super) headers: Pairs,
    /// The user agent.
    pub(super) agent: String,
    /// The address, if the payload is to have one.
    pub(super) address: Option<IpAddr>,
    /// The country of the address.
    pub(super) country: &'static str,
    /// The network of the address.
    pub(super) network: u32,
}

pub(super) fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

impl Draft {
    /// Creates a request of a person's software, without query and headers.
    pub(super) fn for_person(person: &Person, agent: String) -> Self {
        Self {
            method: "GET",
            resource: "/pixel.gif",
            code: None,
            query: Pairs::new(),
            headers: Pairs::new(),
            agent,
            address: Some(person.address),
            country: person.country.code,
            network: person.network,
        }
    }

    /// Creates a request of a machine in a data centre.
    pub(super) fn for_machine(agent: String, address: IpAddr, country: &'static str, network: u32) -> Self {
        Self {
            method: "GET",
            resource: "/pixel.gif",
            code: None,
            query: Pairs::new(),
            headers: Pairs::new(),
            agent,
            address: Some(address),
            country,
            network,
        }
    }

    /// Requests the image of a code.
    pub(super) fn with_code(mut self, resource: &'static str, code: impl Into<String>) -> Self {
        self.resource = resource;
        self.code = Some(code.into());
        self
    }

    pub(super) fn parameter(&mut self, name: &str, value: impl Into<String>) {
        self.query.push(pair(name, value));
    }

    pub(super) fn header(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push(pair(name, value));
    }

    /// Adds the headers that every program that shows images sends.
    pub(super) fn add_accept_headers(&mut self, accept: &str, language: &str) {
        self.header("accept", accept);
        self.header("accept-encoding", "gzip, deflate, br");
        self.header("accept-language", language);
    }

    /// Returns the request as the function gets it from the passthrough template.
    pub(super) fn request(mut self, time: i64, id: &str, random: &mut Random) -> Request {
        self.pass_through();
        let context = self.context(time, id, random);
        let path_parameters: Pairs = self.code.into_iter().map(|code| pair("code", code)).collect();
        let path = path_parameters
            .iter()
            .fold(self.resource.to_owned(), |path, (_, code)| path.replace("{code}", code));
        self.query.sort_by(|left, right| left.0.cmp(&right.0));
        self.headers.sort_by(|left, right| left.0.cmp(&right.0));
        Request {
            ingress: Ingress::Passthrough,
            method: self.method.to_owned(),
            path,
            query: self.query,
            headers: self.headers,
            path_parameters,
            stage_variables: Pairs::new(),
            context,
            body: None,
            oddities: Vec::new(),
        }
    }

    /// Adds the headers of the CDN before the API and of the API itself.
    fn pass_through(&mut self) {
        self.header("cloudfront-viewer-asn", self.network.to_string());
        self.header("cloudfront-viewer-country", self.country);
        self.header("host", "pixel.shop.example");
        self.header("user-agent", self.agent.clone());
        if let Some(address) = self.address {
            self.header("x-forwarded-for", format!("{address}, 198.51.100.7"));
        }
    }

    /// Returns API Gateway's context of the request: all names of the template, with empty values for those it does not
    /// know.
    fn context(&self, time: i64, id: &str, random: &mut Random) -> Pairs {
        let mut context: Pairs = CONTEXT
            .into_iter()
            .map(|name| {
                let value = match name {
                    "account-id" => "111122223333".to_owned(),
                    "api-id" => "d3m0sh0p42".to_owned(),
                    "domain-name" => "pixel.shop.example".to_owned(),
                    "extended-request-id" => id.to_owned(),
                    "http-method" => self.method.to_owned(),
                    "request-id" => super::uuid(random),
                    "request-time-epoch" => time.to_string(),
                    "resource-id" => "x7k2p9".to_owned(),
                    "resource-path" => self.resource.to_owned(),
                    "source-ip" => self.address.map(|address| address.to_string()).unwrap_or_default(),
                    "stage" => "prod".to_owned(),
                    "user-agent" => self.agent.clone(),
                    _ => String::new(),
                };
                (name.to_owned(), value)
            })
            .collect();
        context.sort();
        context
    }
}
