//! Opening the file: made if missing, refused if newer, put aside if damaged.

use std::fmt;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::model::time::WallTime;
use crate::store::error::{StoreError, is_damage};
use crate::store::handle::Store;
use crate::store::load::{self, Loaded};
use crate::store::migrate::{self, Found, Schema};
use crate::store::reserve::Reserve;
use crate::store::state::LoadedState;
use crate::store::worker::Outside;
use crate::store::{backup, borrow, damage};

/// Called on the store thread: `true` and why when writing begins to fail, `false` and what was lost
/// when it works again.
pub type TroubleHook = Box<dyn FnMut(bool, String) + Send>;

/// Asked before each transaction, and once more before a commit is answered: how many bytes are free, or an error if
/// the file system of the state is read-only. A write to a file that is open may seem to work there, because it goes no further than memory.
pub type DiskCheck = Box<dyn Fn() -> io::Result<u64> + Send>;

/// How to open.
pub struct Options {
    /// The wall clock, for the name of a damaged file.
    pub now: WallTime,
    /// Told once per outage when it begins and once when it ends.
    pub on_trouble: TroubleHook,
    /// Whether the file system can be written.
    pub disk: DiskCheck,
    /// A private folder on another file system, for a copy to work with while this one is read-only.
    pub spare: Option<PathBuf>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// An open store.
#[derive(Debug)]
pub struct Opened {
    /// To write with.
    pub store: Store,
    /// What was in it.
    pub state: LoadedState,
    /// What the user should be told: a damaged file was put aside, an app could not be read.
    pub notes: Vec<String>,
    /// The state is not the last one that was confirmed: it is from a backup, or there is none at all, although
    /// processes of it may live.
    pub salvaged: bool,
    /// The file system is read-only: this is a copy, and every commit is refused. Open it again when it is writable.
    pub borrowed: bool,
    /// Of the file, as it is now.
    pub schema: Schema,
}

impl Store {
    /// Opens the state file, making it (mode 0600) if it is missing, and starts the store thread.
    ///
    /// A damaged file is moved aside and its backup taken, or a fresh one begun, which is said in `notes`.
    ///
    /// # Errors
    /// If the file cannot be opened or written, is in use, was made by a newer version, or belongs to
    /// another program. It is unchanged in the last two cases.
    pub fn open(path: &Path, options: Options) -> Result<Opened, StoreError> {
        let read_only = (options.disk)().is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem);
        match &options.spare {
            Some(folder) if read_only => Self::open_copy(path, &folder.clone(), options),
            Some(_) | None => Self::open_file(path, options),
        }
    }

    fn open_copy(path: &Path, folder: &Path, options: Options) -> Result<Opened, StoreError> {
        let copy = borrow::borrow(path, folder).map_err(|source| StoreError::Create {
            path: path.to_owned(),
            source,
        })?;
        let disk: DiskCheck = Box::new(|| Err(io::ErrorKind::ReadOnlyFilesystem.into()));
        let mut opened = Self::open_file(&copy, Options { disk, ..options })?;
        opened.borrowed = true;
        opened.notes.insert(
            0,
            format!(
                "the file system of {} is read-only: what runs is looked after, what is to be changed is refused, and what happens is forgotten with this daemon",
                path.display()
            ),
        );
        Ok(opened)
    }

    fn open_file(path: &Path, options: Options) -> Result<Opened, StoreError> {
        let mut notes = Vec::new();
        let mut salvaged = false;
        let emptied = path.metadata().is_ok_and(|file| file.len() == 0) && backup::exists(path);
        let first = if emptied {
            Err(StoreError::Open {
                path: path.to_owned(),
                operation: "read",
                source: damage::error(),
            })
        } else {
            prepare(path)
        };
        let (connection, loaded, schema) = match first {
            Err(StoreError::Open {
                source,
                operation,
                path,
            }) if is_damage(&source) => {
                if !emptied && !damage::is_damaged(&path) {
                    return Err(StoreError::Open {
                        source,
                        operation,
                        path,
                    });
                }
                put_aside(&path, options.now, &source.to_string(), &mut notes)?;
                salvaged = true;
                prepare(&path)?
            }
            other => other?,
        };
        let Loaded {
            state,
            tally,
            notes: said,
        } = loaded;
        notes.extend(said);
        let store = Store::start(
            connection,
            tally,
            Outside {
                on_trouble: options.on_trouble,
                disk: options.disk,
                reserve: Reserve::beside(path),
                path: path.to_owned(),
            },
        )?;
        Ok(Opened {
            store,
            state,
            notes,
            salvaged,
            borrowed: false,
            schema,
        })
    }
}

fn put_aside(path: &Path, now: WallTime, why: &str, notes: &mut Vec<String>) -> Result<(), StoreError> {
    let aside = damage::move_aside(path, now).map_err(|source| StoreError::MoveAside {
        path: path.to_owned(),
        source,
    })?;
    let instead = match backup::restore(path) {
        Some(made) => format!("its backup of {made} was taken: what was changed since has to be done again"),
        None => "there is no backup, so a new one was begun: what does not run has to be started again".to_owned(),
    };
    notes.push(format!(
        "the state file {} is damaged ({why}); it was kept as {}, and {instead}",
        path.display(),
        aside.display()
    ));
    Ok(())
}

fn prepare(path: &Path) -> Result<(Connection, Loaded, Schema), StoreError> {
    make_private(path).map_err(|source| StoreError::Create {
        path: path.to_owned(),
        source,
    })?;
    let failed = |operation| {
        move |source| StoreError::Open {
            path: path.to_owned(),
            operation,
            source,
        }
    };
    let busy = |error: StoreError| {
        if let StoreError::Open { source, .. } = &error
            && source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
        {
            return StoreError::InUse { path: path.to_owned() };
        }
        error
    };
    let connection = connect(path).map_err(failed("open a connection")).map_err(busy)?;
    let from = match migrate::inspect(&connection, path).map_err(busy)? {
        Found::Empty => Schema {
            number: 0,
            oldest_reader: 0,
        },
        Found::Schema(schema) => schema,
        Found::Strange => {
            // The lock has to go before another connection can look.
            drop(connection);
            if damage::is_damaged(path) {
                return Err(failed("read")(damage::error()));
            }
            return Err(StoreError::Foreign { path: path.to_owned() });
        }
    };
    accept(&connection).map_err(failed("prepare")).map_err(busy)?;
    migrate::migrate(&connection, from.number).map_err(failed("migrate"))?;
    let loaded = load::load(&connection).map_err(failed("read"))?;
    let now = if from.number < migrate::newest() {
        Schema {
            number: migrate::newest(),
            oldest_reader: migrate::oldest_reader(),
        }
    } else {
        from
    };
    Ok((connection, loaded, now))
}

/// Environment values are in the file, so it is its owner's alone; SQLite gives the log beside it the
/// same mode.
fn make_private(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(file) => {
            file.sync_all()?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Opened, so that what is no file, or may not be written, is told by its own error.
            let file = OpenOptions::new().read(true).write(true).open(path)?;
            file.set_permissions(Permissions::from_mode(0o600))
        }
        Err(error) => Err(error),
    }
}

/// Opens without changing a byte: nothing here writes, and a log that is found is left where it is
/// when the connection is closed again.
fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Two seconds: an old daemon that is just ending still has the lock.
    connection.execute_batch(
        "PRAGMA busy_timeout = 2000;
         PRAGMA locking_mode = EXCLUSIVE;
         PRAGMA cache_size = -256;
         PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY;",
    )?;
    connection.set_prepared_statement_cache_capacity(16);
    Ok(connection)
}

/// From here on the file is ours.
fn accept(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 256;
         PRAGMA journal_size_limit = 1048576;
         PRAGMA soft_heap_limit = 1048576;
         PRAGMA foreign_keys = ON;",
    )
}
