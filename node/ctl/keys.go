package ctl

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/effiscale/effiscale/node/api"
)

const (
	keyBytes = 32 // of AES-256
	// maxKeyFile is far more than a key and what is said about it.
	maxKeyFile = 16 << 10
)

// keygenCmd prints a key and nothing else, so that its output is the key file.
func (a *app) keygenCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "keygen",
		Short:   "Print a new key for a cluster",
		Long:    "Print a new key for a cluster: one line of base64 and nothing else. It needs no daemon and keeps nothing.",
		Example: "  (umask 077; effiscale keygen > /etc/effiscale/cluster.key)",
		Args:    noArgs,
		RunE: a.run(func(context.Context, []string) error {
			if a.output == "json" {
				return usagef("keygen prints a key and nothing else; drop --output json")
			}
			key := make([]byte, keyBytes)
			_, _ = rand.Read(key) // never fails: it ends the process first
			if err := a.write(base64.StdEncoding.EncodeToString(key) + "\n"); err != nil {
				return err
			}
			if a.ErrTerminal {
				fmt.Fprint(a.Err, "Keep it in a file of mode 600, the same on every node, and name that in cluster.key_file.\nWho has it can join the cluster.\n")
			}
			return nil
		}),
	}
}

func (a *app) keysCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show and change the keys that encrypt the cluster's gossip",
		Long: "Show and change the keys that encrypt the cluster's gossip. To change the key without a pause: `add` the\n" +
			"new one, wait until `list` shows it on all nodes, `use` it, `remove` the old one. A node that is down\n" +
			"meanwhile comes back as long as it has the key that is sent with: `add` that before `use`, and `remove`\n" +
			"nothing until all are back. A key comes from a file or, with -, from standard input: never from the\n" +
			"command line, which every user of the host can read.\n\n" +
			"Each node keeps what was changed in cluster.keys of its node.data_dir (mode 0600), and starts with that. It\n" +
			"counts before cluster.key_file until that file is changed: then the file's keys count, and no others. So\n" +
			"put the new key into the file of every node at the end, for nodes that are made from it.",
		Example: "  effiscale keys add new.key\n  effiscale keys use new.key\n  ssh admin cat old.key | effiscale keys remove -",
		// Without it a word that is no command would print the help, and exit with 0.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("%q is no command of keys: allowed are list, add, use and remove", shorten(clean(args[0])))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Show the fingerprints of the keys, and how many nodes hold each", Args: noArgs,
			RunE: a.run(func(ctx context.Context, _ []string) error {
				k, err := call(ctx, a.client().Keys)
				if err != nil {
					return err
				}
				return emit(a, k, keysText)
			}),
		},
		a.keyCmd("add", "Give all nodes a key with which they can read"),
		a.keyCmd("use", "Let all nodes send with a key that they have"),
		a.keyCmd("remove", "Take a key from all nodes; not the one that is used"),
	)
	return cmd
}

// keyCmd is one change of the keys.
func (a *app) keyCmd(do, short string) *cobra.Command {
	return &cobra.Command{
		Use:   do + " FILE|-",
		Short: short,
		Args:  oneArg("FILE or -"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: a.run(func(ctx context.Context, args []string) error {
			key, err := a.readKey(args[0])
			if err != nil {
				return err
			}
			k, err := call(ctx, func(ctx context.Context) (api.Keys, error) {
				return a.client().KeyChange(ctx, api.KeyRequest{Do: do, Key: key})
			})
			if err != nil {
				return err
			}
			return emit(a, k, keysText)
		}),
	}
}

// readKey reads the one key of a file, or of standard input for "-". No message
// repeats a key.
func (a *app) readKey(name string) (string, error) {
	from, in := "standard input", a.In
	if name != "-" {
		f, err := openKey(name)
		if err != nil {
			return "", err
		}
		defer f.Close()
		from, in = shorten(clean(name)), f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxKeyFile+1))
	if err != nil {
		return "", fmt.Errorf("cannot read a key from %s: %w", from, err)
	}
	var keys []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	switch {
	case len(b) > maxKeyFile:
		return "", usagef("%s is larger than %d bytes: it should hold one key", from, maxKeyFile)
	case len(keys) != 1:
		return "", usagef("%s holds %s: it should hold one, on a line of its own", from, plural(len(keys), "key", "keys"))
	case !api.CheckKey(keys[0]):
		return "", usagef("%s holds no key: one is 32 bytes in base64, as `effiscale keygen` prints it", from)
	}
	return keys[0], nil
}

func openKey(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return nil, usagef("%s is a directory: give a file that holds one key", shorten(clean(name)))
	}
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && api.CheckKey(name):
		return nil, usagef("a key does not belong on the command line, where every user of the host can read it: give a file, or - for standard input, and make another key")
	case errors.Is(err, fs.ErrNotExist): // its name might be most of a key
		return nil, Coded(ExitNotFound, errors.New("there is no such file: give one that holds a key, or - to read it from standard input"))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a key: %w", err)
	}
	return f, nil
}

func keysText(p *page, k api.Keys) {
	if len(k.Keys) == 0 {
		p.line("No keys: gossip is not encrypted, and stays on loopback. `effiscale keygen` makes one.")
		return
	}
	t := &table{head: []string{"FINGERPRINT", "USE", "NODES"}}
	missing := false
	sending := 0
	for _, v := range k.Keys {
		use, nodes := "reads", fmt.Sprintf("%d/%d", v.Nodes, v.Of)
		if v.Senders > 0 {
			sending++
		}
		if v.Primary {
			use = p.style(styleBold, "sends")
		} else if v.Senders > 0 {
			use = p.style(styleYellow, fmt.Sprintf("sends on %d !", v.Senders))
		}
		if v.Nodes < v.Of-k.Down { // what a node holds that is down is not known, and it cannot be given anything
			missing = true
			nodes = p.style(styleYellow, nodes+" !")
		}
		t.add(v.Fingerprint, use, nodes)
	}
	t.print(p)
	if missing {
		p.paragraph(p.style(styleYellow, "!")+" ", "Not every node holds every key: `add` it again before it is used, so that all can read what is sent.")
	}
	if sending > 1 {
		p.paragraph(p.style(styleYellow, "!")+" ", "Not all nodes send with the same key: `use` the one that is to be sent with, before any is removed.")
	}
	for _, note := range k.Notes {
		p.paragraph(p.style(styleYellow, "!")+" ", note)
	}
}
