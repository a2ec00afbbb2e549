//! `-store.url`: which store, and where.

use std::{fmt, path::PathBuf, str::FromStr};

use sqlx::any::AnyConnectOptions;

/// Where a service keeps its records.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `memory:`: in its memory, gone with the process.
    Memory,
    /// `sqlite:PATH`: in a file, which several instances on one machine may share.
    Sqlite(PathBuf),
    /// `postgres://user@host:port/database?sslmode=...`: on a server that speaks PostgreSQL's protocol. The password is
    /// the URL's, or `PGPASSWORD`.
    Postgres(String),
}

impl FromStr for StoreUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const TRY: &str = "(try memory:, sqlite:PATH or postgres://user@host/database)";
        // The URL may hold a password: only its scheme is repeated.
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) if !matches!(path, "" | ":memory:") && !path.contains('\0') => {
                Ok(Self::Sqlite(PathBuf::from(path.strip_prefix("//").unwrap_or(path))))
            }
            Some(("sqlite", _)) => Err(format!("sqlite: needs the path of a file {TRY}")),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                AnyConnectOptions::from_str(text).map_err(|_| format!("not a URL {TRY}"))?;
                Ok(Self::Postgres(text.to_owned()))
            }
            Some((scheme, _)) => Err(format!("no store is called {scheme:?} {TRY}")),
            None => Err(format!("not a store {TRY}")),
        }
    }
}

impl StoreUrl {
    /// What the driver connects with; `None` for [`StoreUrl::Memory`].
    pub(crate) fn options(&self) -> Option<Result<AnyConnectOptions, sqlx::Error>> {
        match self {
            Self::Memory => None,
            Self::Sqlite(path) => {
                // The driver takes what it calls a URL: these would end the path, or be decoded in it.
                let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
                Some(format!("sqlite://{path}?mode=rwc").parse())
            }
            Self::Postgres(url) => Some(url.parse()),
        }
    }
}

/// Without the password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.split_once("://").map_or("", |(_, rest)| rest);
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                let database = path.split_once('?').map_or(path, |(database, _)| database);
                write!(f, "postgres://{host}/{database}")
            }
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_kind_is_told_by_its_scheme() {
        assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
        assert_eq!("sqlite:data/feed.db".parse(), Ok(StoreUrl::Sqlite("data/feed.db".into())));
        assert_eq!("sqlite:///var/lib/feed.db".parse(), Ok(StoreUrl::Sqlite("/var/lib/feed.db".into())));
        assert!(matches!("postgres://feed@db:5432/app".parse(), Ok(StoreUrl::Postgres(_))));
        assert!(matches!("postgresql:///app?host=/run/postgresql".parse(), Ok(StoreUrl::Postgres(_))));
    }

    #[test]
    fn what_is_no_store_is_refused_without_repeating_it() {
        for (text, error) in [
            ("", "not a store"),
            ("data.db", "not a store"),
            ("mysql://root:secret@db/app", "no store is called \"mysql\""),
            ("memory:x", "no store is called \"memory\""),
            ("sqlite:", "sqlite: needs the path of a file"),
            ("sqlite::memory:", "sqlite: needs the path of a file"),
            ("postgres:secret", "no store is called \"postgres\""),
            ("postgres://user:secret@[half/app", "not a URL"),
        ] {
            let told = text.parse::<StoreUrl>().unwrap_err();
            assert!(told.starts_with(error) && !told.contains("secret"), "{text}: {told}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: StoreUrl = "postgres://feed:se/cret@db:5432/app?password=secret".parse().unwrap_or(StoreUrl::Memory);
        assert!(!format!("{url} {url:?}").contains("secret"));
        let url: StoreUrl = "postgres://feed:s%2Fcret@db:5432/app?password=secret".parse().unwrap();
        assert_eq!(format!("{url} {url:?}"), "postgres://db:5432/app StoreUrl(postgres://db:5432/app)");
    }
}
