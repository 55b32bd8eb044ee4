package ctl

import (
	"context"
	"embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpFiles are the help topics, one Markdown file each.
//
//go:embed help/*.md
var helpFiles embed.FS

// topic is one help topic.
type topic struct{ name, title, text string }

// topics are all help topics by name. The first line of a file is its title.
func topics() []topic {
	files, _ := helpFiles.ReadDir("help") // an embedded directory can be read
	var out []topic
	for _, f := range files {
		b, _ := helpFiles.ReadFile(path.Join("help", f.Name()))
		title, _, _ := strings.Cut(string(b), "\n")
		out = append(out, topic{strings.TrimSuffix(f.Name(), ".md"), strings.TrimPrefix(title, "# "), string(b)})
	}
	return out
}

func isTopic(name string) bool {
	return slices.ContainsFunc(topics(), func(t topic) bool { return t.name == name })
}

func helpCmd(a *app, root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Show the help of a command, or a help topic",
		Long:  "Show the help of a command, or a help topic: the reference of EffiScale.",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return helpNames(root), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: a.run(func(_ context.Context, args []string) error {
			if cmd, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				return cmd.Help()
			}
			i := slices.IndexFunc(topics(), func(t topic) bool { return len(args) == 1 && t.name == args[0] })
			if i < 0 {
				return unknownTopic(root, strings.Join(args, " "))
			}
			p := a.page()
			markdown(p, topics()[i].text)
			return paged(a, p.String())
		}),
	}
}

// helpNames are the names of all topics and commands.
func helpNames(root *cobra.Command) []string {
	var names []string
	for _, t := range topics() {
		names = append(names, t.name)
	}
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() {
			names = append(names, cmd.Name())
		}
	}
	return names
}

// unknownTopic is the error for a name that is neither a topic nor a command.
func unknownTopic(root *cobra.Command, name string) error {
	names := &cobra.Command{SuggestionsMinimumDistance: 2} // for cobra's measure of likeness
	for _, n := range helpNames(root) {
		names.AddCommand(&cobra.Command{Use: n, Run: func(*cobra.Command, []string) {}})
	}
	hint := "`effiscale help` lists both."
	if near := names.SuggestionsFor(name); len(near) > 0 {
		hint = "Did you mean `effiscale help " + near[0] + "`? " + hint
	}
	return usagef("no help topic or command %q\n%s", shorten(clean(name)), hint)
}

// commandHelp is the help of a command.
func commandHelp(a *app, cmd *cobra.Command) string {
	p := a.page()
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	p.prose(text)
	p.heading("Usage")
	if cmd.Runnable() {
		p.line("  %s", strings.TrimSuffix(cmd.CommandPath(), cmd.Name())+cmd.Use)
	}
	if cmd.HasAvailableSubCommands() {
		p.line("  %s COMMAND", cmd.CommandPath())
	}
	if cmd.Example != "" {
		p.heading("Examples")
		p.line("%s", cmd.Example)
	}
	commandLists(p, cmd)
	if cmd.HasAvailableLocalFlags() {
		p.heading("Flags")
		flagTable(p, cmd.LocalFlags())
	}
	if cmd.HasAvailableInheritedFlags() {
		p.heading("Flags of every command")
		flagTable(p, cmd.InheritedFlags())
	}
	if !cmd.HasParent() {
		p.heading("Help topics, for `effiscale help TOPIC`")
		for _, t := range topics() {
			p.paragraph(fmt.Sprintf("  %-13s ", t.name), t.title)
		}
	}
	return p.String()
}

// prose prints paragraphs wrapped to the page. Lines that begin with a space are printed as
// they are.
func (p *page) prose(text string) {
	var open []string
	flush := func() {
		if len(open) > 0 {
			p.paragraph("", strings.Join(open, " "))
			open = nil
		}
	}
	for l := range strings.SplitSeq(text, "\n") {
		if l != "" && l[0] != ' ' {
			open = append(open, l)
			continue
		}
		flush()
		p.line("%s", l)
	}
	flush()
}

func (p *page) heading(title string) { p.line("\n%s", p.style(styleBold, title)) }

// commandLists are the commands below a command, by group.
func commandLists(p *page, cmd *cobra.Command) {
	list := func(title, group string) {
		cmds := slices.DeleteFunc(slices.Clone(cmd.Commands()), func(c *cobra.Command) bool {
			return c.GroupID != group || !c.IsAvailableCommand() && c.Name() != "help"
		})
		if len(cmds) == 0 {
			return
		}
		p.heading(title)
		for _, c := range cmds {
			p.paragraph(fmt.Sprintf("  %-13s ", c.Name()), c.Short)
		}
	}
	for _, g := range cmd.Groups() {
		list(g.Title, g.ID)
	}
	if len(cmd.Groups()) > 0 {
		list("Other commands", "")
	} else {
		list("Commands", "")
	}
}

// flagTable prints flags with their defaults.
func flagTable(p *page, flags *pflag.FlagSet) {
	var names, texts []string
	width := 0
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		short, value := "    ", ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		kind, usage := pflag.UnquoteUsage(f)
		if f.Value.Type() != "bool" {
			value = " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0s" {
			usage += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		names = append(names, "  "+short+"--"+f.Name+value)
		texts = append(texts, usage)
		width = max(width, len(names[len(names)-1]))
	})
	for i, name := range names {
		p.paragraph(name+strings.Repeat(" ", width-ansi.StringWidth(name)+3), texts[i])
	}
}
