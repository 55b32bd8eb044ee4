package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
	"github.com/effiscale/effiscale/knowledge/profile"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/ops"
)

// The small documents in the store.
const (
	docStarts = "starts"
)

// recentHours is how much of the record a course is read from after a restart.
const recentHours = 9 * time.Hour

const (
	// crashLoop starts without an orderly stop, within crashWithin, are a crash
	// loop: the node then only measures.
	crashLoop   = 3
	crashWithin = 5 * time.Minute
)

// starts is the log of starts since the last orderly stop.
type starts struct {
	At []time.Time `json:"at"`
	// Unclean: the life that ended in order was too short to look at what a crash of
	// the one before had left.
	Unclean bool `json:"unclean,omitempty"`
}

// openStore opens the knowledge file, finds the node's identity, and counts how
// often it crashed of late.
func (n *Node) openStore(cfg config.Config) error {
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make node.data_dir %s: %w; run as root, or set it to a directory that this user may write", cfg.Node.DataDir, err)
	}
	s, opened, err := store.Open(store.Options{Dir: cfg.Node.DataDir, MaxSize: int64(cfg.Store.MaxSize), Log: n.log})
	if err != nil {
		return err
	}
	n.store = s
	n.push("knowledge file", func() error { return ignoreDegraded(s.Close()) }) // the log has said so
	n.why = opened.Why
	if opened.SetAside != "" {
		n.log.Error().Str("file", opened.SetAside).Str("why", opened.Why).
			Msg("the knowledge file could not be trusted; it is set aside and a new one is begun")
	}
	if err := n.identify(cfg, opened.Fresh); err != nil {
		return err
	}
	n.countCrashes(time.Now())
	return nil
}

// identify keeps the node's id for life. On another machine (a host cloned from
// an image with its state) it is another node, with what the first one learned of
// services; what it knows of containers finds none here. Without the terms of its
// earlier lives it is another node, too: under the old id it could take a term again
// that it had before, and hosts that heard that one to its end would not listen.
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
		n.log.Warn().Str("id", string(id.Node)).Msg("this state was made on another machine: the node takes a new identity")
		known = false
		if _, err := setAsideKey(cfg, "another-machine"); err != nil {
			return err
		}
	}
	if fresh {
		if at, err := setAsideKey(cfg, "lost-knowledge"); err != nil {
			return err
		} else if at != "" {
			n.log.Warn().Str("file", at).Msg("what this node knew is lost, and with it what it had promised: it takes a new identity, the old key is set aside")
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
		n.log.Warn().Err(err).Msg("the node's identity is kept in memory only")
	}
	return nil
}

// setAsideKey keeps a key from being used, and says where it is then; "": there was none.
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

// countCrashes notes this start. An orderly stop clears the log.
func (n *Node) countCrashes(now time.Time) {
	var log starts
	known, err := n.store.Documents.Get(docStarts, &log)
	if err != nil {
		n.log.Debug().Err(err).Msg("the log of starts cannot be read")
	}
	// Without a log the disk of a life that was killed may be lost: what the kernel
	// holds and the Engine does not is looked at as after a crash.
	n.unclean = len(log.At) > 0 || log.Unclean || !known
	recent := log.At[:0]
	for _, at := range log.At {
		if d := now.Sub(at); d >= 0 && d < crashWithin {
			recent = append(recent, at)
		}
	}
	if len(recent) >= crashLoop {
		n.crashes = len(recent)
		n.log.Error().Int("crashes", n.crashes).Msg("safe mode: it crashed too often in five minutes, and only measures until an orderly restart")
	}
	log.At = append(recent, now.UTC())
	n.starts = len(log.At)
	if len(log.At) > 16 {
		log.At = log.At[len(log.At)-16:]
	}
	if err := n.store.Documents.Put(docStarts, log); err != nil {
		n.log.Debug().Err(err).Msg("the log of starts is kept in memory only")
	}
	n.push("log of starts", func() error {
		return ignoreDegraded(n.store.Documents.Put(docStarts, starts{Unclean: n.loop != nil && n.loop.Unadopted()}))
	})
}

func ignoreDegraded(err error) error {
	if errors.Is(err, store.ErrDegraded) {
		return nil
	}
	return err
}

// memory is the store as the loop sees it.
type memory struct {
	s       *store.Store
	commits func(time.Duration, error)
}

var _ mape.Store = memory{}

func (m memory) Begin(a knowledge.Action) (uint64, error) { return m.s.Journal.Begin(a) }
func (m memory) End(o knowledge.Outcome) error            { return m.s.Journal.End(o) }
func (m memory) Keep(o knowledge.Original) error          { return m.s.Originals.Put(o) }
func (m memory) Amend(o knowledge.Original) error         { return m.s.Originals.Amend(o) }
func (m memory) Drop(id knowledge.ContainerID) error      { return m.s.Originals.Drop(id) }

func (m memory) Commit(b mape.Batch) error {
	began := time.Now()
	images := make(map[store.ImageCopy][]byte, len(b.Images))
	seals := make(map[store.ImageCopy][]byte, len(b.Images))
	for at, c := range b.Images {
		images[store.ImageCopy(at)], seals[store.ImageCopy(at)] = c.Packed, c.Seal
	}
	err := m.s.Learned.Commit(store.Batch{
		Profiles: b.Profiles, States: b.Marks, Series: b.Series, Images: images, Seals: seals, Models: b.Models, Folds: b.Folds, Alive: b.Alive,
	})
	m.commits(time.Since(began), err)
	return err
}

// restored reads what earlier lives left. What cannot be read is as if it were
// not there: it is learned again.
func (n *Node) restored() mape.Restored {
	r := mape.Restored{
		Profiles:  map[knowledge.ServiceKey]*profile.Profile{},
		Series:    map[knowledge.ServiceKey]*history.Series{},
		Originals: map[knowledge.ContainerID]knowledge.Original{},
		Pauses:    map[knowledge.ServiceKey]knowledge.Pause{},
	}
	packed, err := n.store.Learned.Profiles()
	n.unreadable("profiles", err)
	now := time.Now()
	for key, b := range packed {
		p, err := profile.Unmarshal(b)
		if err != nil {
			n.unreadable("profile of "+string(key), err)
			continue
		}
		r.Profiles[key] = p
		chunks, err := n.store.Learned.Running(key, now)
		n.unreadable("series of "+string(key), err)
		series := history.NewSeries()
		for _, c := range chunks {
			n.unreadable("series of "+string(key), series.Restore(c))
		}
		r.Series[key] = series
	}
	r.Images = n.images()
	r.Models, err = n.store.Learned.Models()
	n.unreadable("models", err)
	r.Recent = map[knowledge.ServiceKey][]history.Bucket{}
	for key := range r.Models {
		r.Recent[key], err = n.store.Learned.Series(key, history.Fine, now.Add(-recentHours), now)
		n.unreadable("series of "+string(key), err)
	}
	r.Marks, err = n.store.Learned.States()
	n.unreadable("states", err)
	for _, o := range n.store.Originals.All() {
		r.Originals[o.ID] = o
	}
	_, err = n.store.Documents.Get(ops.DocPauses, &r.Pauses)
	n.unreadable("pauses", err)
	// An action that was under way at the end may have been done all the same.
	r.Last, r.Unclean = n.lastChanges(), n.unclean || len(n.store.Journal.OpenActions()) > 0
	return r
}

// images reads the profiles of images: this node's part, and those of nodes that
// had this file before.
func (n *Node) images() map[knowledge.ImageKey]*profile.Shared {
	out := map[knowledge.ImageKey]*profile.Shared{}
	copies, err := n.store.Learned.Images()
	n.unreadable("images", err)
	seals, err := n.store.Learned.Seals()
	n.unreadable("seals", err)
	for at, b := range copies {
		p, err := profile.Unmarshal(b)
		if err != nil {
			n.unreadable("profile of image "+string(at.Image), err)
			continue
		}
		if out[at.Image] == nil {
			out[at.Image] = &profile.Shared{}
			out[at.Image].Keep(n.identity.Node)
		}
		out[at.Image].PutCopy(profile.Copy{Host: at.Host, Profile: p, Seal: seals[at]})
	}
	return out
}

func (n *Node) unreadable(what string, err error) {
	if err != nil {
		n.log.Warn().Err(err).Str("what", what).Msg("cannot be read back and is learned again")
	}
}

// lastChanges is the newest record of each container, for status.
func (n *Node) lastChanges() map[knowledge.ContainerID]knowledge.Record {
	out := map[knowledge.ContainerID]knowledge.Record{}
	records, err := n.store.Journal.Records(store.Filter{Limit: 2000})
	n.unreadable("history", err)
	for _, r := range records {
		if _, seen := out[r.Action.ID]; !seen {
			out[r.Action.ID] = r
		}
	}
	return out
}

// closeWithin is how long a container that is there may take to be measured before
// an action of an earlier life is closed without it: its control group may have to be
// asked from the Engine.
const closeWithin = 30 * time.Second

// closeOpen closes actions that were begun and never ended: the node died between.
// What the container holds now tells whether the Engine had done it. Those of
// containers that are not measured yet come back.
func (n *Node) closeOpen(open []knowledge.Record, held func(knowledge.ContainerID, knowledge.Resource) (int64, bool, bool)) (later []knowledge.Record) {
	for _, r := range open {
		o := knowledge.Outcome{Seq: r.Action.Seq, At: time.Now().UTC(), Result: knowledge.ResultSuperseded,
			Message: "the daemon ended before the answer; the container is gone"}
		want := r.Action.Resize
		v, ok, waits := held(r.Action.ID, want.Resource)
		switch {
		case r.Action.Kind != knowledge.ActionResize: // the next listing shows what came of it
			o.Message = "the daemon ended before the answer"
		case waits && time.Since(n.started) < closeWithin:
			later = append(later, r)
			continue
		case waits:
			o.Message = "the daemon ended before the answer; the container cannot be measured"
		case ok:
			o.Kernel = v
			o.Message = "the daemon ended before the answer; the kernel does not hold it"
			if diff := v - want.To; max(diff, -diff) <= want.To/100 {
				o.Result, o.Message = knowledge.ResultApplied, "the daemon ended before the answer; found in force at the next start"
			}
		}
		if err := n.store.Journal.End(o); err != nil {
			n.log.Debug().Err(err).Msg("an open action stays open")
		}
		n.log.Info().Uint64("seq", o.Seq).Str("container", r.Action.Name).Stringer("result", o.Result).Msg("closed an action of an earlier life")
	}
	return later
}
