package node

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/config"
)

// openStore opens the knowledge file, finds the node's identity, and counts recent crashes.
func (n *Node) openStore(cfg config.Config) error {
	if err := os.MkdirAll(cfg.Node.DataDir, 0o700); err != nil {
		return fmt.Errorf("cannot make node.data_dir %s: %w; run as root, or set it to a directory that this user may write",
			cfg.Node.DataDir, err)
	}
	s, opened, err := store.Open(store.Options{Dir: cfg.Node.DataDir, MaxSize: int64(cfg.Store.MaxSize), Log: n.log})
	if err != nil {
		return err
	}
	n.store = s
	n.push("knowledge file", func() error { return ignoreDegraded(s.Close()) }) // it has logged why
	n.before.store = opened.Why
	if opened.SetAside != "" {
		n.log.Error().Str("file", opened.SetAside).Str("why", opened.Why).
			Msg("corrupt knowledge file set aside; starting with a new one")
	}
	if err := n.identify(cfg, opened.Fresh); err != nil {
		return err
	}
	n.countCrashes(time.Now())
	return nil
}

func ignoreDegraded(err error) error {
	if errors.Is(err, store.ErrDegraded) {
		return nil
	}
	return err
}

// memory is the store as the loop uses it.
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
		Profiles: b.Profiles, States: b.Marks, Series: b.Series, Images: images, Seals: seals, Models: b.Models,
		Folds: b.Folds, Alive: b.Alive,
	})
	m.commits(time.Since(began), err)
	return err
}
