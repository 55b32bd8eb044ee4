package node

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/config"
)

// docStarts names the document of the store that holds the log of starts.
const docStarts = "starts"

const (
	// crashLoop starts without an orderly stop, within crashWithin, are a crash
	// loop: the node then only measures.
	crashLoop   = 3
	crashWithin = 5 * time.Minute
)

// earlierRuns is what the store tells of the runs of the daemon before this one.
type earlierRuns struct {
	store   string // what happened to the knowledge file when it was opened; "": nothing
	starts  int    // of the last minutes, this one included
	crashes int    // of the last minutes, where they are a crash loop
	unclean bool   // the last run ended without an orderly stop
	// open are actions of an earlier run whose end is not known yet; the loop's goroutine only.
	open []knowledge.Record
}

// starts is the log of starts since the last orderly stop.
type starts struct {
	At []time.Time `json:"at"`
	// Unclean: the run that stopped in order was too short to adopt what a crash of the one
	// before it had left.
	Unclean bool `json:"unclean,omitempty"`
}

// identify keeps the node's id. On another machine (a host cloned from an image with its
// state) it is another node, with the profiles of services of the first one. Without the
// terms of its earlier runs it is another node, too: under the old id it could take a term
// again that it had before, which hosts would refuse.
func (n *Node) identify(cfg config.Config, fresh bool) error {
	machine := firstLine("/etc/machine-id")
	id, known := n.store.Identity()
	name := cfg.Node.Name
	if name == "" {
		name, _ = os.Hostname()
	}
	if name == "" {
		name = "node"
	}
	if known && id.MachineID != "" && machine != "" && id.MachineID != machine {
		n.log.Warn().Str("id", string(id.Node)).
			Msg("the data directory was made on another machine; starting with a new node identity")
		known = false
		if _, err := setAsideKey(cfg, "another-machine"); err != nil {
			return err
		}
	}
	if fresh {
		if at, err := setAsideKey(cfg, "lost-knowledge"); err != nil {
			return err
		} else if at != "" {
			n.log.Warn().Str("file", at).Msg("database lost; starting with a new node identity, old key set aside")
			if n.store.Originals.Lost().IsZero() {
				n.before.store = cmp.Or(n.before.store, "it was missing")
				if err := n.store.Originals.NoteLoss(time.Now()); err != nil {
					n.log.Debug().Err(err).Str("what", "loss of the knowledge file").Msg("cannot write to the knowledge file")
				}
			}
		}
	}
	if err := n.loadKey(cfg); err != nil {
		return err
	}
	if !known || id.Node != n.key.ID() {
		id, known = store.Identity{Node: n.key.ID(), Created: time.Now().UTC()}, false
	}
	changed := !known || id.Name != name
	id.Name, id.MachineID = name, machine
	n.identity = id
	if !changed {
		return nil
	}
	if err := n.store.SetIdentity(id); err != nil {
		n.log.Warn().Err(err).Msg("cannot persist the node's identity; keeping it in memory")
	}
	return nil
}

// setAsideKey renames the key and returns its new path; "": there was none.
func setAsideKey(cfg config.Config, of string) (at string, err error) {
	key := filepath.Join(cfg.Node.DataDir, "node.key")
	at = key + ".of-" + of
	switch err = os.Rename(key, at); {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("cannot set the key of %s aside: %w", of, err)
	}
	return at, nil
}

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// countCrashes records this start. An orderly stop clears the log.
func (n *Node) countCrashes(now time.Time) {
	var log starts
	known, err := n.store.Documents.Get(docStarts, &log)
	if err != nil {
		n.log.Debug().Err(err).Msg("cannot read the log of starts")
	}
	// Without a log the disk of a killed run may be lost: limits that the kernel holds and the
	// Engine does not are checked as after a crash.
	n.before.unclean = len(log.At) > 0 || log.Unclean || !known
	recent := log.At[:0]
	for _, at := range log.At {
		if d := now.Sub(at); d >= 0 && d < crashWithin {
			recent = append(recent, at)
		}
	}
	if len(recent) >= crashLoop {
		n.before.crashes = len(recent)
		n.log.Error().Int("crashes", n.before.crashes).
			Msg("safe mode: too many crashes in five minutes; only measuring until an orderly restart")
	}
	log.At = append(recent, now.UTC())
	n.before.starts = len(log.At)
	if len(log.At) > 16 {
		log.At = log.At[len(log.At)-16:]
	}
	if err := n.store.Documents.Put(docStarts, log); err != nil {
		n.log.Debug().Err(err).Msg("cannot persist the log of starts")
	}
	n.push("log of starts", func() error {
		return ignoreDegraded(n.store.Documents.Put(docStarts, starts{Unclean: n.loop != nil && n.loop.Unadopted()}))
	})
}
