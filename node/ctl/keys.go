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
	// maxKeyFile is far more than a key with comments.
	maxKeyFile = 16 << 10
)

// keygenCmd prints a key and nothing else, so that its output is the key file.
func keygenCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "keygen",
		Short:   "Print a new cluster key",
		Long:    "Print a new cluster key: one line of base64. It needs no daemon and stores nothing.",
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
				fmt.Fprint(a.Err, "Store it in a file of mode 600, the same on every node, and set cluster.key_file to its path.\n"+
					"Anyone with the key can join the cluster.\n")
			}
			return nil
		}),
	}
}

const keysHelp = `Show and change the keys that encrypt the cluster's gossip. To change the key without an interruption:
"add" the new key, wait until "list" shows it on all nodes, "use" it, "remove" the old key. A node that is
down meanwhile can return while the others still accept the first key of its key file, so remove no key
before all nodes are back. A key is read from a file, or with - from standard input, never from the
command line, which every user of the host can read.

Each node stores the change in cluster.keys of its node.data_dir (mode 0600) and uses it at the next start.
It takes precedence over cluster.key_file until that file changes; then the keys of the file are used, and
no others. Write the new key to the key file of every node at the end, for nodes that are set up later.`

func keysCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show and change the keys that encrypt the cluster's gossip",
		Long:  keysHelp,
		Example: "  effiscale keys add new.key\n  effiscale keys use new.key\n" +
			"  ssh admin cat old.key | effiscale keys remove -",
		// Without RunE an unknown word would print the help and exit with 0.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q of keys: allowed are list, add, use and remove", shorten(clean(args[0])))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "Show the keys' fingerprints and how many nodes have each", Args: noArgs,
			RunE: a.run(func(ctx context.Context, _ []string) error {
				_, err := ask(ctx, a, api.OpKeys, api.None{}, keysText)
				return err
			}),
		},
		keyCmd(a, "add", "Distribute a key; all nodes can decrypt with it"),
		keyCmd(a, "use", "Let all nodes encrypt with a key that they have"),
		keyCmd(a, "remove", "Remove a key from all nodes; the key in use is refused"),
	)
	return cmd
}

// keyCmd is one change of the keys.
func keyCmd(a *app, change, short string) *cobra.Command {
	return &cobra.Command{
		Use:   change + " FILE|-",
		Short: short,
		Args:  oneArg("FILE or -"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: a.run(func(ctx context.Context, args []string) error {
			key, err := readKey(a.In, args[0])
			if err != nil {
				return err
			}
			_, err = ask(ctx, a, api.OpKeyChange, api.KeyRequest{Do: change, Key: key}, keysText)
			return err
		}),
	}
}

// readKey reads the one key of a file, or of standard input for "-". No error
// contains a key.
func readKey(in io.Reader, name string) (string, error) {
	from := "standard input"
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
		return "", usagef("%s is larger than %d bytes: it must contain one key", from, maxKeyFile)
	case len(keys) != 1:
		return "", usagef("%s contains %s: it must contain one, on a line of its own", from, plural(len(keys), "key", "keys"))
	case !api.CheckKey(keys[0]):
		return "", usagef("%s contains no key: a key is 32 bytes in base64, as `effiscale keygen` prints it", from)
	}
	return keys[0], nil
}

func openKey(name string) (*os.File, error) {
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return nil, usagef("%s is a directory: give a file with one key", shorten(clean(name)))
	}
	f, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && api.CheckKey(name):
		return nil, usagef("every user of the host can read a key on the command line: generate another key, " +
			"and give a file, or - for standard input")
	case errors.Is(err, fs.ErrNotExist): // the name is left out: it may be most of a key
		return nil, usagef("no such file: give a file with a key, or - for standard input")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a key: %w", err)
	}
	return f, nil
}

func keysText(p *page, k api.Keys) {
	if len(k.Keys) == 0 {
		p.line("No keys: gossip is not encrypted and uses loopback only. `effiscale keygen` generates a key.")
		return
	}
	t := &table{head: []string{"FINGERPRINT", "USE", "NODES"}}
	missing := false
	sending := 0
	for _, v := range k.Keys {
		use, nodes := "decrypts", fmt.Sprintf("%d/%d", v.Nodes, v.Of)
		if v.Senders > 0 {
			sending++
		}
		if v.Primary {
			use = p.style(styleBold, "encrypts")
		} else if v.Senders > 0 {
			use = p.style(styleYellow, fmt.Sprintf("encrypts on %d !", v.Senders))
		}
		if v.Nodes < v.Of-k.Down { // the keys of nodes that are down are not known
			missing = true
			nodes = p.style(styleYellow, nodes+" !")
		}
		t.add(v.Fingerprint, use, nodes)
	}
	t.print(p)
	if missing {
		p.warning("Not every node has every key: `add` it again before you `use` it.")
	}
	if sending > 1 {
		p.warning("The nodes encrypt with different keys: `use` one of them before you `remove` any.")
	}
	for _, note := range k.Notes {
		p.warning(note)
	}
}
