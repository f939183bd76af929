//! Runs a program as one provider call: no shell, an environment of its own, bounded output, and
//! dead when its time is over.
//!
//! It differs from `tokio::process` in what cannot be forgotten here (X8): arguments go to the
//! program as they are and never through a shell; it sees no variable of ours that was not named;
//! a secret has no way into its arguments; and the whole process group is killed when the call
//! ends, is cut or is dropped, so that nothing goes on working after its lease (S6). A program
//! with a grace is interrupted first, and killed when that is over, whoever still waits for it.
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
    runtime::Handle,
};

/// Variables that a program takes over from this process unless [`Program::inheriting`] says
/// otherwise: where programs are found, and nothing else.
pub const INHERITED: [&str; 1] = ["PATH"];
/// Default of [`Program::with_output_max`]: 1 MiB.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Bytes of the error output that are kept: the last ones, since the reason stands at the end.
pub const COMPLAINT_BYTES_MAX: usize = 16 << 10;
/// How long a killed program may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(5);
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
    /// each the last bytes are read, and nobody is killed for writing more ([`Ended::was_cut`]).
    ///
    /// Both are locked (`flock`) for as long as somebody may still write into them: the program,
    /// what it has started, and this process until the call is over.
    #[must_use]
    pub fn with_output_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.output_file = Some(file.into());
        self
    }

    /// Interrupts it (`SIGINT`) so long before the end of its time that it can end by itself; it
    /// and its group are killed when the time is over. Default 0: they are killed at once.
    ///
    /// With a grace, dropping the future interrupts it too, and does not wait: it may go on for as
    /// long as the grace, after which it and its group are killed by a task of the runtime. So
    /// something else must keep it from working beside its successor, such as a lock that it holds.
    /// It should write into a file ([`with_output_file`](Self::with_output_file)).
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
    /// its process group is then killed. Dropping the future kills all of the group, after the
    /// grace if it has one. Needs a runtime with I/O.
    ///
    /// A program with a grace is killed here when its time is over, and how it ended is told as of
    /// any other ([`Ended::code`]); without one the call ends as `timeout`.
    ///
    /// # Errors
    /// The program is not there (`program_missing`, permanent) or cannot be started (`spawn`), or
    /// the file of its output cannot be made (`output_file`), all with effect `None`; it wrote too
    /// much (`output_too_large`), or could not be watched to its end (`pipe`): unknown for a
    /// mutating call. Any exit code is `Ok`.
    pub async fn run(&self, cx: &StepContext, call: &Call) -> Result<Ended, StepError> {
        if self.grace.is_zero() {
            return cx.call(call, self.exchange(call)).await;
        }
        let with_its_end = call.clone().with_timeout(call.timeout.saturating_add(GONE_WITHIN));
        cx.call(&with_its_end, self.exchange(call)).await
    }

    async fn exchange(&self, call: &Call) -> Result<Ended, StepError> {
        let outputs = self.outputs().map_err(|error| unwritable(call, error))?;
        let mut command = self.command();
        command.stdout(outputs.out).stderr(outputs.errors);
        let child = command.spawn().map_err(|error| unstarted(call, error))?;
        let mut group = Group::of(child, self.grace);
        let ended = self.accompany(&mut group, call.timeout).await;
        // In the poll that saw its end: afterwards its number may be another's.
        group.end();
        let mut ended = ended.map_err(|trouble| trouble.told(call))?;
        if let Some((out, errors)) = outputs.files {
            let said = async {
                let (output, was_cut) = tail(out, self.output_bytes_max).await?;
                Ok((output, was_cut, tail(errors, COMPLAINT_BYTES_MAX).await?.0))
            };
            let said = said.await.map_err(|trouble: Trouble| trouble.told(call))?;
            (ended.output, ended.was_cut, ended.complaint) = said;
        }
        Ok(ended)
    }

    /// Watches it to its end, which is brought about when its time is over.
    async fn accompany(&self, group: &mut Group, allowed: Duration) -> Result<Ended, Trouble> {
        let Group { child: Some(child), id, interrupted, .. } = group else {
            return Err(io::Error::other("nothing was started").into());
        };
        let mut watched = pin!(self.watch(child));
        if self.grace.is_zero() {
            return watched.await;
        }
        let alone = allowed.saturating_sub(self.grace);
        if let Some(ended) = clock::within(alone, &mut watched).await {
            return ended;
        }
        *interrupted = true;
        interrupt(*id);
        if let Some(ended) = clock::within(self.grace, &mut watched).await {
            return ended;
        }
        kill(*id);
        watched.await
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
        Ok(Ended { status: child.wait().await?, output, was_cut: false, complaint })
    }

    /// Where its outputs go to.
    fn outputs(&self) -> io::Result<Outputs> {
        let Some(file) = &self.output_file else {
            return Ok(Outputs { out: Stdio::piped(), errors: Stdio::piped(), files: None });
        };
        let (out, errors) = (fresh(file)?, fresh(&errors_of(file))?);
        // What is read afterwards are these very files, whatever then stands in their place.
        Ok(Outputs {
            out: out.try_clone()?.into(),
            errors: errors.try_clone()?.into(),
            files: Some((out, errors)),
        })
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

/// The outputs of a program, and its files where it has some.
struct Outputs {
    out: Stdio,
    errors: Stdio,
    files: Option<(File, File)>,
}

/// How a program ended, and what it said.
#[derive(Clone)]
pub struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    was_cut: bool,
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

    /// Whether [`output`](Self::output) is only the end of what it wrote: into a file it may write
    /// more than is read.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// The last [`COMPLAINT_BYTES_MAX`] bytes of its error output, for sorting what went wrong.
    /// It may hold anything, and belongs into no error, journal or log.
    #[must_use]
    pub fn complaint(&self) -> String {
        String::from_utf8_lossy(&self.complaint).into_owned()
    }
}

/// The process group of a program; dropping it kills what is left of it, after the grace of a
/// leader that still works.
#[derive(Debug)]
struct Group {
    child: Option<Child>,
    id: Option<Pid>,
    grace: Duration,
    interrupted: bool,
    over: bool,
}

impl Group {
    fn of(child: Child, grace: Duration) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child: Some(child), id, grace, interrupted: false, over: false }
    }

    /// Kills what the leader has left behind.
    fn end(mut self) {
        self.over = true;
    }
}

/// Tells the leader alone: what it has started is ended by it.
fn interrupt(leader: Option<Pid>) {
    if let Some(leader) = leader {
        let _ = kill_process(leader, Signal::INT);
    }
}

/// Kills a group. Nobody left is the good case. The number must not have been given to another
/// group meanwhile: the leader's end is seen in this very poll, or has not been asked for.
fn kill(group: Option<Pid>) {
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.over || self.grace.is_zero() {
            return kill(self.id);
        }
        // Twice would mean "at once" to many programs, which then write nothing down.
        if !self.interrupted {
            interrupt(self.id);
        }
        // Nobody can wait here. The task owns the leader, so its number stays its own; it ends
        // within the grace, and with the runtime, of which the interrupted program needs nothing.
        if let (Some(mut leader), Ok(runtime)) = (self.child.take(), Handle::try_current()) {
            let (id, grace) = (self.id, self.grace);
            runtime.spawn(async move {
                let _ = clock::within(grace, leader.wait()).await;
                kill(id);
            });
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

/// S9: nothing was started.
fn unwritable(call: &Call, source: io::Error) -> StepError {
    StepError::new(Effect::None, Verdict::Retry { after: None }, call.operation)
        .with_code("output_file")
        .with_message("the file of the program's output cannot be made")
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
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(file)?;
    file.try_lock()?;
    Ok(file)
}

/// The last bytes of a file, and whether there are more.
async fn tail(file: File, most: usize) -> Result<(Vec<u8>, bool), Trouble> {
    let mut file = tokio::fs::File::from_std(file);
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let begin = file.metadata().await?.len().saturating_sub(most);
    file.seek(io::SeekFrom::Start(begin)).await?;
    let mut kept = Vec::new();
    file.take(most).read_to_end(&mut kept).await?;
    Ok((kept, begin > 0))
}
