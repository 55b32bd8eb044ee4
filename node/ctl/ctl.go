// Package ctl is the command line: each command is a client of node/api. Text
// goes to people, JSON to programs; both hold only what the daemon said, with
// every control character made visible first.
package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

// Client is what the commands need of a daemon; *api.Client is one.
type Client interface {
	Status(ctx context.Context) (api.Status, error)
	Explain(ctx context.Context, container string) (api.Explain, error)
	Records(ctx context.Context, name string, limit int) (api.History, error)
	Plan(ctx context.Context, r api.PlanRequest) (api.Plan, error)
	Trace(ctx context.Context, r api.TraceRequest) (api.Trace, error)
	Scale(ctx context.Context, r api.ScaleRequest) (api.ScaleResult, error)
	Pause(ctx context.Context, r api.PauseRequest) (api.PauseResult, error)
	Restore(ctx context.Context, container string) (api.RestoreResult, error)
	Reload(ctx context.Context) error

	Members(ctx context.Context) (api.Members, error)
	Join(ctx context.Context, addrs []string) (api.JoinResult, error)
	Leave(ctx context.Context, name string) error
	Keys(ctx context.Context) (api.Keys, error)
	KeyChange(ctx context.Context, r api.KeyRequest) (api.Keys, error)
}

// Stdio is the process's surroundings.
type Stdio struct {
	In          io.Reader
	Out, Err    io.Writer
	Env         []string // as os.Environ
	Terminal    bool     // Out is a terminal
	ErrTerminal bool     // Err is one
}

// OS is the real surroundings.
func OS() Stdio {
	return Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ(), Terminal: term.IsTerminal(os.Stdout.Fd()),
		ErrTerminal: term.IsTerminal(os.Stderr.Fd())}
}

// RunOptions are the flags of `effiscale run`.
type RunOptions struct {
	ConfigFile string // "": the defaults
	Socket     string // "": as configured
	Env        []string
}

// DoctorOptions are the flags of `effiscale doctor`.
type DoctorOptions struct {
	ConfigFile string
	Socket     string // "": as configured
	Env        []string
}

// DemoOptions are the flags of `effiscale demo`.
type DemoOptions struct {
	Shape    string
	Duration time.Duration // of each of the two runs together
	Plain    bool          // lines instead of a live picture
	Colour   bool
	Out      io.Writer
}

// Deps is what the commands need of rooms that this one does not know; a
// command whose part is nil does not exist. An error made with Coded chooses
// the exit code.
type Deps struct {
	Version string // one line: version, commit, toolchain
	// Sockets are the places of the daemon's socket when none is named: the
	// first one that exists counts, else the first.
	Sockets []string
	Connect func(socket string) Client
	Run     func(context.Context, RunOptions) error
	Doctor  func(context.Context, DoctorOptions) []api.Check
	// Validate reads a configuration file and returns what would hold.
	Validate func(path string, env []string) (text string, err error)
	Demo     func(context.Context, DemoOptions) error
	// DemoServe is the service inside the demo's containers.
	DemoServe func(ctx context.Context, args []string) error
	// Now is the clock of relative times; nil: time.Now.
	Now func() time.Time
}

// callTimeout bounds one call of the daemon. An Engine update may take its 10 s
// twice, and restore does several.
const callTimeout = 60 * time.Second

// app is one invocation.
type app struct {
	Stdio
	deps    Deps
	socket  string
	output  string
	noColor bool
	ran     bool // a command's own code was reached: its errors are not usage errors
}

// Main runs one command line and returns the exit code. args are without the
// program's name. It never exits the process.
func Main(ctx context.Context, args []string, stdio Stdio, deps Deps) int {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Connect == nil {
		deps.Connect = func(socket string) Client { return api.NewClient(socket) }
	}
	a := &app{Stdio: stdio, deps: deps}
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // cobra takes os.Args for nil
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	shellsOnly(root)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.ran {
		hint := "See `" + helpOf(root, args) + " --help`."
		if len(args) > 0 {
			if near := root.SuggestionsFor(args[0]); len(near) > 0 && strings.HasPrefix(err.Error(), "unknown command") {
				hint = "Did you mean `effiscale " + near[0] + "`? " + hint
			}
		}
		err = usagef("%w\n%s", err, hint)
	}
	if text := cleanLines(errText(err)); text != "" && codeOf(err) != ExitOK {
		fmt.Fprintf(a.Err, "effiscale: %s\n", text)
	}
	return codeOf(err)
}

// helpOf is the command whose help says more.
func helpOf(root *cobra.Command, args []string) string {
	if cmd, _, err := root.Find(args); err == nil {
		return cmd.CommandPath()
	}
	return root.Name()
}

// plainFlagError says what is allowed, instead of what the parser met.
func plainFlagError(_ *cobra.Command, err error) error {
	text, cause, _ := strings.Cut(err.Error(), " flag: ")
	switch {
	case strings.HasPrefix(cause, "time: "):
		return fmt.Errorf("%s: allowed are durations such as 30s, 30m or 2h, up to a year", text)
	case strings.HasPrefix(cause, "strconv."):
		return fmt.Errorf("%s: allowed are whole numbers", text)
	}
	return err
}

// oneArg takes exactly one argument and says what it is.
func oneArg(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return nil
		}
		return fmt.Errorf("%s takes one %s, %d were given", cmd.Name(), what, len(args))
	}
}

// atMostOneName takes one NAME, or none beside a flag that stands for it.
func atMostOneName(cmd *cobra.Command, args []string) error {
	if len(args) <= 1 {
		return nil
	}
	return fmt.Errorf("%s takes one NAME at most, %d were given", cmd.Name(), len(args))
}

// noArgs takes none.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no argument, %q was given", cmd.Name(), shorten(args[0]))
}

// errText is the message of an error, with the next step where it is known.
func errText(err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text += "\nThe daemon did not answer in time: see `effiscale status` and the daemon's log."
	}
	return text
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "effiscale",
		Short: "Keeps Docker containers at the right size",
		Long: "EffiScale watches Docker containers and keeps their CPU and memory limits at the right size, in\n" +
			"place. Containers opt in with the label effiscale.enable=true.\n\n" +
			"Without a command it shows `status`; when no daemon runs, this help.",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(plainFlagError)
	root.RunE = a.run(func(ctx context.Context, _ []string) error { return a.bare(ctx, root) })
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "socket of the daemon (or EFFISCALE_SOCKET)")
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (or NO_COLOR, or TERM=dumb)")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	_ = root.RegisterFlagCompletionFunc("socket", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "text" && a.output != "json" {
			return fmt.Errorf("--output %q: allowed are text and json", a.output)
		}
		return nil
	}
	root.AddCommand(a.statusCmd(), a.explainCmd(), a.historyCmd(), a.planCmd(), a.exportCmd(), a.scaleCmd(), a.pauseCmd(), a.resumeCmd(),
		a.restoreCmd(), a.reloadCmd(), a.membersCmd(), a.joinCmd(), a.leaveCmd(), a.keysCmd(), a.keygenCmd(), a.simulateCmd(), a.tuneCmd(), a.versionCmd(), exitCodesTopic())
	for _, local := range []struct {
		there bool
		cmd   func() *cobra.Command
	}{
		{a.deps.Run != nil, a.runCmd}, {a.deps.Doctor != nil, a.doctorCmd}, {a.deps.Validate != nil, a.validateCmd},
		{a.deps.Demo != nil, a.demoCmd}, {a.deps.DemoServe != nil, a.demoServeCmd},
	} {
		if local.there {
			root.AddCommand(local.cmd())
		}
	}
	return root
}

// shellsOnly refuses a shell that there is no completion for: cobra prints its help then,
// which a shell's start-up file would read, and exits with 0.
func shellsOnly(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if cmd, _, err := root.Find([]string{"completion"}); err == nil && cmd != root {
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("%q is no shell of completion: allowed are bash, fish, powershell and zsh", shorten(clean(args[0])))
		}
	}
}

// exitCodesTopic is a help topic: a command without a deed.
func exitCodesTopic() *cobra.Command {
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: strings.TrimRight(exitCodesHelp, "\n")}
}

// run marks that the command line itself was right.
//
//go:noinline // copies make the binary larger
func (a *app) run(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		return f(cmd.Context(), args)
	}
}

// bare is `effiscale` alone.
func (a *app) bare(ctx context.Context, cmd *cobra.Command) error {
	err := a.status(ctx)
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	if err := cmd.Help(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\nNo daemon answers on %s.\n", clean(a.socketPath()))
	fmt.Fprint(a.Out, "  see it work     sudo effiscale demo\n  start it        sudo effiscale run\n  check the host  sudo effiscale doctor\n")
	return nil
}

func (a *app) env(key string) string {
	for i := len(a.Env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(a.Env[i], key+"="); ok {
			return v
		}
	}
	return ""
}

// socketPath is the flag, else the environment, else the first default that exists.
func (a *app) socketPath() string {
	if s := a.namedSocket(); s != "" {
		return s
	}
	for _, s := range a.deps.Sockets {
		if _, err := os.Stat(s); err == nil {
			return s
		}
	}
	if len(a.deps.Sockets) > 0 {
		return a.deps.Sockets[0]
	}
	return "/run/effiscale/effiscale.sock"
}

// namedSocket is the socket that the user named, "" for none.
func (a *app) namedSocket() string {
	if a.socket != "" {
		return a.socket
	}
	return a.env("EFFISCALE_SOCKET")
}

func (a *app) client() Client { return a.deps.Connect(a.socketPath()) }

// colour reports whether Out may be coloured (no-color.org).
func (a *app) colour() bool {
	return a.Terminal && !a.noColor && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"
}

// call bounds one conversation with the daemon.
func call[T any](ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

// emit writes a view: as JSON just as it is, else as the text that render makes
// of a copy in which every string is harmless to a terminal.
func emit[T any](a *app, view T, render func(*page, T)) error {
	if a.output == "json" {
		return a.json(view)
	}
	p := &page{colour: a.colour(), now: a.deps.Now()}
	render(p, scrub(view))
	return a.write(p.String())
}

func (a *app) write(s string) error {
	if _, err := io.WriteString(a.Out, s); err != nil {
		return fmt.Errorf("cannot write the output: %w", err)
	}
	return nil
}
