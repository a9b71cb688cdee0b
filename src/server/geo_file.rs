//! Geolocation from a file in `MaxMind`'s format: countries, or networks, or both.

use std::net::IpAddr;
use std::path::Path;

use maxminddb::{Reader, path};

use crate::config::Problem;
use crate::hit::enrich::geo::{Place, country};

/// A geolocation file, read into memory.
pub struct GeoFile {
    reader: Reader<Vec<u8>>,
}

impl std::fmt::Debug for GeoFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("GeoFile").finish_non_exhaustive()
    }
}

impl GeoFile {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// [`Problem`] when the file is missing or has another format.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let error = |reason: String| Problem {
            variable: "PIXEL_GEO_FILE".to_owned(),
            value: path.display().to_string(),
            remedy: format!("{reason}; give a file in MaxMind's format (.mmdb)"),
        };
        let reader = Reader::open_readfile(path).map_err(|reason| error(reason.to_string()))?;
        // A truncated file opens without an error; only reading all of it shows what is missing.
        reader.verify().map_err(|reason| error(reason.to_string()))?;
        Ok(Self { reader })
    }

    /// Returns the country and network of an address, as far as the file has them.
    pub fn place(&self, address: IpAddr) -> Place {
        let Ok(found) = self.reader.lookup(address) else {
            return Place::default();
        };
        let text = |path: &[maxminddb::PathElement<'_>]| found.decode_path::<String>(path).ok().flatten();
        let code = text(&path!["country", "iso_code"]).or_else(|| text(&path!["country_code"]));
        let number = found
            .decode_path::<u32>(&path!["autonomous_system_number"])
            .ok()
            .flatten();
        Place {
            country: code.and_then(|code| country(&code)),
            network: number,
        }
    }
}
