//! Runs a program as one provider call: no shell, an environment of its own, bounded output, and
//! dead when its time is over.
//!
//! It differs from `tokio::process` in what cannot be forgotten here (X8): arguments go to the
//! program as they are and never through a shell; it sees no variable of ours that was not named;
//! a secret has no way into its arguments; and the whole process group is killed when the call
//! ends, is cut or is dropped, so that nothing goes on working after its lease (S6).
//!
//! A program can leave its group on purpose (`setsid`), and nobody is there to kill it when this
//! process itself is killed. What then may still land is what [`provision_core::Timing`] is for.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::{File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use provision_core::{Call, CallKind, Effect, Secret, StepContext, StepError, Verdict, clock};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
};

/// Variables that a program takes over from this process unless [`Program::inheriting`] says
/// otherwise: where programs are found, and nothing else.
pub const INHERITED: [&str; 1] = ["PATH"];
/// Default of [`Program::with_output_max`]: 1 MiB.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes of the error output that are kept: the last ones, since the reason stands at the end.
pub const COMPLAINT_BYTES_MAX: usize = 16 << 10;
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 16 << 10;

/// A program with its arguments and its environment; [`run`](Self::run) starts it.
///
/// ```
/// use provision_adapters::tools::process::Program;
/// use provision_core::Secret;
///
/// let dump = Program::new("pg_dump")
///     .arguments(["--schema-only", "--dbname", "template; rm -r x"])
///     .with_variable("PGHOST", "127.0.0.1")
///     .with_secret("PGPASSWORD", &Secret::new("hunter2"));
/// assert!(!format!("{dump:?}").contains("hunter2"));
/// ```
#[derive(Clone)]
pub struct Program {
    executable: OsString,
    arguments: Vec<OsString>,
    inherited: Vec<OsString>,
    variables: Vec<(OsString, Variable)>,
    folder: Option<PathBuf>,
    input: Option<Vec<u8>>,
    output_bytes_max: usize,
    output_file: Option<PathBuf>,
    grace: Duration,
}

#[derive(Clone)]
enum Variable {
    Plain(OsString),
    Secret(Secret),
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of the environment and the input may be anything.
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        f.debug_struct("Program")
            .field("executable", &self.executable)
            .field("arguments", &self.arguments)
            .field("variables", &names)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// A program by its path, or by a name that is looked for on `PATH`.
    #[must_use]
    pub fn new(executable: impl Into<OsString>) -> Self {
        Self {
            executable: executable.into(),
            arguments: Vec::new(),
            inherited: INHERITED.iter().map(OsString::from).collect(),
            variables: Vec::new(),
            folder: None,
            input: None,
            output_bytes_max: OUTPUT_BYTES_MAX,
            output_file: None,
            grace: Duration::ZERO,
        }
    }

    /// Adds arguments, each as it is. Everybody on the machine can read them.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Replaces the variables that are taken over from this process. Default [`INHERITED`].
    #[must_use]
    pub fn inheriting(mut self, names: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.inherited = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), Variable::Plain(value.into())));
        self
    }

    /// Sets a variable that holds a secret. The same user and the administrator of the machine
    /// can read the environment of a running program; nobody else can.
    #[must_use]
    pub fn with_secret(mut self, name: impl Into<OsString>, value: &Secret) -> Self {
        self.variables.push((name.into(), Variable::Secret(value.clone())));
        self
    }

    /// Sets the folder it runs in. Default: that of this process.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Sets what it reads on its standard input. Default: nothing, the input is empty.
    ///
    /// When this process dies the input ends early: the program must not take a piece for the
    /// whole.
    #[must_use]
    pub fn with_input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Has it write into a file of its own instead of to this process, and its error output into a
    /// second one beside it, with `.errors` appended. Default: pipes.
    ///
    /// For programs that must come to their end when this process dies: who writes into a pipe that
    /// nobody reads any more is killed by the system. Both files can be read by this user alone. Of
    /// each the last bytes are read, and nobody is killed for writing more.
    #[must_use]
    pub fn with_output_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.output_file = Some(file.into());
        self
    }

    /// Interrupts it (`SIGINT`) so long before the end of its time that it can end by itself; it
    /// and its group are killed when the time is over. Default 0: they are killed at once.
    ///
    /// With a grace, dropping the future interrupts it too, and does not wait: it may go on for a
    /// while, so something else must keep it from working beside its successor, such as a lock that
    /// it holds. It should write into a file ([`with_output_file`](Self::with_output_file)).
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Most bytes of its standard output; with more it is killed. Default [`OUTPUT_BYTES_MAX`].
    #[must_use]
    pub fn with_output_max(mut self, bytes: usize) -> Self {
        self.output_bytes_max = bytes;
        self
    }

    /// Runs it to its end as one call: the limiter is asked, and the lease and the call's time-out
    /// bound it.
    ///
    /// It has ended when it has exited and nobody holds its outputs open any more; what it left in
    /// its process group is then killed. Dropping the future kills all of the group. Needs a
    /// runtime with I/O.
    ///
    /// # Errors
    /// The program is not there (`program_missing`, permanent) or cannot be started (`spawn`),
    /// both with effect `None`; it wrote too much (`output_too_large`), or could not be watched to
    /// its end (`pipe`): unknown for a mutating call. Any exit code is `Ok`.
    pub async fn run(&self, cx: &StepContext, call: &Call) -> Result<Ended, StepError> {
        cx.call(call, self.exchange(call)).await
    }

    async fn exchange(&self, call: &Call) -> Result<Ended, StepError> {
        let (out, errors) = self.outputs().map_err(|error| unstarted(call, error))?;
        let mut command = self.command();
        command.stdout(out).stderr(errors);
        let mut child = command.spawn().map_err(|error| unstarted(call, error))?;
        let mut group = Group::of(&child, !self.grace.is_zero());
        let mut watched = pin!(self.watch(&mut child));
        let ended = match self.grace.is_zero() {
            true => watched.await,
            false => {
                let alone = call.timeout.saturating_sub(self.grace);
                match clock::within(alone, &mut watched).await {
                    Some(ended) => ended,
                    None => {
                        group.interrupt();
                        watched.await
                    }
                }
            }
        };
        // In the poll that saw its end: afterwards its number may be another's.
        group.end();
        let mut ended = ended.map_err(|trouble| trouble.told(call))?;
        if let Some(file) = &self.output_file {
            let said = self.written(file).await;
            (ended.output, ended.complaint) = said.map_err(|trouble| trouble.told(call))?;
        }
        Ok(ended)
    }

    /// Feeds it and reads it until it has ended.
    async fn watch(&self, child: &mut Child) -> Result<Ended, Trouble> {
        let (input, output, errors) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (_, output, complaint) = tokio::try_join!(
            write(input, self.input.as_deref().unwrap_or_default()),
            read(output, self.output_bytes_max),
            read_end(errors, COMPLAINT_BYTES_MAX),
        )?;
        Ok(Ended { status: child.wait().await?, output, complaint })
    }

    /// What it has written into its files.
    async fn written(&self, file: &Path) -> Result<(Vec<u8>, Vec<u8>), Trouble> {
        let output = tail(file, self.output_bytes_max).await?;
        Ok((output, tail(&errors_of(file), COMPLAINT_BYTES_MAX).await?))
    }

    /// Where its outputs go to.
    fn outputs(&self) -> io::Result<(Stdio, Stdio)> {
        match &self.output_file {
            None => Ok((Stdio::piped(), Stdio::piped())),
            Some(file) => Ok((fresh(file)?.into(), fresh(&errors_of(file))?.into())),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.args(&self.arguments).env_clear();
        for name in &self.inherited {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        for (name, value) in &self.variables {
            match value {
                Variable::Plain(value) => command.env(name, value),
                Variable::Secret(value) => command.env(name, OsStr::new(value.expose())),
            };
        }
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let input = if self.input.is_some() { Stdio::piped() } else { Stdio::null() };
        // Its own group, so that what it starts can be killed with it.
        command.stdin(input).process_group(0).kill_on_drop(self.grace.is_zero());
        command
    }
}

/// How a program ended, and what it said.
#[derive(Clone)]
pub struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // X1: what a program writes may hold anything.
        f.debug_struct("Ended")
            .field("status", &self.status)
            .field("output_bytes", &self.output.len())
            .field("complaint_bytes", &self.complaint.len())
            .finish()
    }
}

impl Ended {
    /// Whether it exited with code 0.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status.success()
    }

    /// Its exit code; none when a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// What it wrote to its standard output.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// The last [`COMPLAINT_BYTES_MAX`] bytes of its error output, for sorting what went wrong.
    /// It may hold anything, and belongs into no error, journal or log.
    #[must_use]
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.complaint).into_owned()
    }
}

/// The process group of a program; dropping it kills what is left of it, or interrupts its leader
/// where that has not been done yet.
#[derive(Debug)]
struct Group {
    id: Option<Pid>,
    gentle: bool,
}

impl Group {
    fn of(child: &Child, gentle: bool) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { id: id.and_then(Pid::from_raw), gentle }
    }

    /// Tells the leader alone: what it has started is ended by it.
    fn interrupt(&mut self) {
        self.gentle = false;
        if let Some(leader) = self.id {
            let _ = kill_process(leader, Signal::INT);
        }
    }

    /// Kills what the leader has left behind.
    fn end(mut self) {
        self.gentle = false;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.gentle {
            self.interrupt();
        } else if let Some(group) = self.id {
            // Nobody left is the good case. The number is not given to another group meanwhile:
            // this runs in the very poll that saw the leader's end, or before it.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Why a started program could not be watched to its end.
enum Trouble {
    Pipe(io::Error),
    TooLarge(usize),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}

impl Trouble {
    fn told(self, call: &Call) -> StepError {
        let effect = match call.kind {
            CallKind::Read => Effect::None,
            CallKind::Mutate => Effect::Unknown,
        };
        let error = StepError::new(effect, Verdict::Retry { after: None }, call.operation);
        match self {
            Self::Pipe(source) => error
                .with_code("pipe")
                .with_message("the program could not be watched to its end")
                .with_source(source),
            Self::TooLarge(most) => error
                .with_code("output_too_large")
                .with_message(format!("the program wrote more than {most} bytes")),
        }
    }
}

/// S9: a program that never began had no effect.
fn unstarted(call: &Call, source: io::Error) -> StepError {
    let (verdict, code, message) = match source.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied => {
            (Verdict::Permanent, "program_missing", "the program or its folder is not there")
        }
        ErrorKind::InvalidInput | ErrorKind::ArgumentListTooLong => {
            (Verdict::Permanent, "bad_arguments", "no program can be given these arguments")
        }
        _ => (Verdict::Retry { after: None }, "spawn", "the program could not be started"),
    };
    StepError::new(Effect::None, verdict, call.operation)
        .with_code(code)
        .with_message(message)
        .with_source(source)
}

/// Writes the input and closes it. A program may end without having read everything.
async fn write(pipe: Option<ChildStdin>, input: &[u8]) -> Result<(), Trouble> {
    let Some(mut pipe) = pipe else { return Ok(()) };
    match pipe.write_all(input).await {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(kept) };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let taken = pipe.read(&mut piece).await?;
        if taken == 0 {
            return Ok(kept);
        }
        if kept.len() + taken > most {
            return Err(Trouble::TooLarge(most));
        }
        kept.extend_from_slice(piece.get(..taken).unwrap_or_default());
    }
}

/// Reads to the end and keeps the last bytes.
async fn read_end(pipe: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(kept) };
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let taken = pipe.read(&mut piece).await?;
        if taken == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(piece.get(..taken).unwrap_or_default());
        let excess = kept.len().saturating_sub(most);
        kept.drain(..excess);
    }
}

/// The file of the error output, beside that of the output.
fn errors_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".errors");
    name.into()
}

/// A new file in the place of an old one, which an earlier program may still write into.
fn fresh(file: &Path) -> io::Result<File> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)
}

/// The last bytes of a file.
async fn tail(file: &Path, most: usize) -> Result<Vec<u8>, Trouble> {
    let mut file = tokio::fs::File::open(file).await?;
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let begin = file.metadata().await?.len().saturating_sub(most);
    file.seek(io::SeekFrom::Start(begin)).await?;
    let mut kept = Vec::new();
    file.take(most).read_to_end(&mut kept).await?;
    Ok(kept)
}
