// Package ctl is the command line. Most commands are clients of node/api: they
// call the daemon and print its answer as text or JSON. Control characters in
// any string of an answer are made visible before they reach a terminal.
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

// Stdio is the environment of the process.
type Stdio struct {
	In          io.Reader
	Out, Err    io.Writer
	Env         []string // as os.Environ
	Terminal    bool     // Out is a terminal
	ErrTerminal bool     // Err is one
	Height      int      // rows of the terminal; 0: unknown
	Width       int      // its columns; 0: unknown
	Root        bool     // the user is root
}

// OS is the environment of this process.
func OS() Stdio {
	s := Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Env: os.Environ(),
		Root: os.Geteuid() == 0, Terminal: term.IsTerminal(os.Stdout.Fd()), ErrTerminal: term.IsTerminal(os.Stderr.Fd())}
	s.measure()
	return s
}

// measure reads the size of the terminal, which may change.
func (s *Stdio) measure() {
	if f, ok := s.Out.(*os.File); ok {
		if width, height, err := term.GetSize(f.Fd()); err == nil {
			s.Width, s.Height = width, height
		}
	}
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
	Duration time.Duration // of both runs together
	Plain    bool          // lines instead of a live view
	Colour   bool
	Out      io.Writer
}

// Deps is what the commands need of packages that ctl does not import. A command
// whose function is nil does not exist. An error made with Coded chooses the exit
// code.
type Deps struct {
	Version string // one line: version, commit, toolchain
	// Sockets are the paths of the daemon's socket when none is named: the first
	// one that exists is used, else the first.
	Sockets []string
	Connect func(socket string) api.Caller
	Run     func(context.Context, RunOptions) error
	Doctor  func(context.Context, DoctorOptions) []api.Check
	// Validate checks a configuration file and the files that it names, and returns the
	// effective configuration.
	Validate func(path string, env []string) (text string, warnings []string, err error)
	Demo     func(context.Context, DemoOptions) error
	// DemoServe is the service inside the demo's containers.
	DemoServe func(ctx context.Context, args []string) error
	// Now is the clock of relative times; nil: time.Now.
	Now func() time.Time
}

// app is one invocation.
type app struct {
	Stdio
	deps    Deps
	socket  string
	output  string
	noColor bool
	ran     bool // the command line was valid: errors from here on are not usage errors
}

// Main runs one command line and returns the exit code. args are without the
// program's name. It never exits the process.
func Main(ctx context.Context, args []string, stdio Stdio, deps Deps) int {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Connect == nil {
		deps.Connect = func(socket string) api.Caller { return api.NewClient(socket) }
	}
	a := &app{Stdio: stdio, deps: deps}
	root := newRoot(a)
	root.SetArgs(append([]string{}, args...)) // cobra takes os.Args for nil
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	completionShells(root)
	err := root.ExecuteContext(ctx)
	if err != nil && !a.ran {
		err = usagef("%w\n%s", err, usageHint(root, args, err))
	}
	if text := a.hint(cleanLines(errText(err))); text != "" && codeOf(err) != ExitOK {
		fmt.Fprintf(a.Err, "effiscale: %s\n", text)
	}
	return codeOf(err)
}

// usageHint names the help of the command, and the nearest command to an unknown one.
func usageHint(root *cobra.Command, args []string, err error) string {
	path := root.Name()
	if cmd, _, err := root.Find(args); err == nil {
		path = cmd.CommandPath()
	}
	hint := "See `" + path + " --help`."
	if len(args) > 0 && strings.HasPrefix(err.Error(), "unknown command") {
		switch near := root.SuggestionsFor(args[0]); {
		case isTopic(args[0]):
			hint = "Did you mean `effiscale help " + args[0] + "`? " + hint
		case len(near) > 0 && near[0] != args[0]:
			hint = "Did you mean `effiscale " + near[0] + "`? " + hint
		}
	}
	return hint
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

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "effiscale",
		Short: "Keeps Docker containers at the right size",
		Long: "EffiScale adjusts the CPU and memory limits of Docker containers to their demand, in place.\n" +
			"Containers opt in with the label effiscale.enable=true.\n\n" +
			"Without a command it shows `status`, or this help when no daemon runs.",
		Args:          cobra.NoArgs,
		Version:       a.deps.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SuggestionsMinimumDistance = 2
	root.SetVersionTemplate("effiscale {{.Version}}\n")
	root.RunE = a.run(func(ctx context.Context, _ []string) error { return bare(ctx, a, root) })
	f := root.PersistentFlags()
	f.StringVar(&a.socket, "socket", "", "socket of the daemon (or EFFISCALE_SOCKET)")
	f.StringVarP(&a.output, "output", "o", "text", "text or json")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (or NO_COLOR, or TERM=dumb)")
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	_ = root.RegisterFlagCompletionFunc("socket", cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
	_ = root.RegisterFlagCompletionFunc("output", oneOf("text", "json"))
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "text" && a.output != "json" {
			return fmt.Errorf("--output %q: allowed are text and json", a.output)
		}
		return nil
	}
	addCommands(root, a)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { _ = a.write(commandHelp(a, cmd)) })
	root.SetHelpCommand(helpCmd(a, root))
	return root
}

// addCommands adds the commands by group, in the order of the help.
func addCommands(root *cobra.Command, a *app) {
	groups := []struct {
		title string
		cmds  []*cobra.Command
	}{
		{"Look", []*cobra.Command{statusCmd(a), explainCmd(a), historyCmd(a), planCmd(a)}},
		{"Act", []*cobra.Command{scaleCmd(a), pauseCmd(a), resumeCmd(a), restoreCmd(a)}},
		{"Try on recorded demand", []*cobra.Command{exportCmd(a), simulateCmd(a), tuneCmd(a)}},
		{"Cluster", []*cobra.Command{membersCmd(a), joinCmd(a), leaveCmd(a), keysCmd(a), keygenCmd(a)}},
		{"Daemon", daemonCmds(a)},
	}
	for _, g := range groups {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, cmd := range g.cmds {
			cmd.GroupID = g.title
			root.AddCommand(cmd)
		}
	}
	if a.deps.DemoServe != nil {
		root.AddCommand(demoServeCmd(a))
	}
}

// completionShells refuses a shell without completion. By itself cobra would print the
// help, which a shell's start-up file would read, and exit with 0.
func completionShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	if cmd, _, err := root.Find([]string{"completion"}); err == nil && cmd != root {
		cmd.Short = "Print the completion script of a shell"
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		cmd.Args = func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return fmt.Errorf("no completion for %q: allowed are bash, fish, powershell and zsh", shorten(clean(args[0])))
		}
	}
}

// run marks that the command line was valid.
func (a *app) run(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.ran = true
		return f(cmd.Context(), args)
	}
}

// runNamed is run for commands with the one argument NAME.
func (a *app) runNamed(f func(ctx context.Context, name string) error) func(*cobra.Command, []string) error {
	return a.run(func(ctx context.Context, args []string) error {
		if err := checkName(args[0]); err != nil {
			return err
		}
		return f(ctx, args[0])
	})
}

// bare is `effiscale` without a command.
func bare(ctx context.Context, a *app, cmd *cobra.Command) error {
	err := showStatus(ctx, a, statusOptions{})
	if !errors.Is(err, api.ErrNotRunning) {
		return err
	}
	if err := cmd.Help(); err != nil {
		return err
	}
	fmt.Fprintf(a.Out, "\nNo daemon answers on %s.\n", clean(a.socketPath()))
	return a.write(a.hint("  see it work     effiscale demo\n  start it        sudo effiscale run\n" +
		"  check the host  sudo effiscale doctor\n"))
}

// hint is advice as this user needs it: root types no sudo.
func (a *app) hint(text string) string {
	if a.Root {
		return strings.ReplaceAll(text, "sudo ", "")
	}
	return text
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

// colour reports whether Out may be coloured (no-color.org).
func (a *app) colour() bool {
	return a.Terminal && !a.noColor && a.env("NO_COLOR") == "" && a.env("TERM") != "dumb"
}
