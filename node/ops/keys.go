package ops

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/view"
)

// KeyRing is the gossip keys of this node.
type KeyRing struct {
	Keys    [][]byte // in force at the start, the one that encrypts first
	Given   [][]byte // of cluster.key_file
	path    string   // of the file that keeps changes of them
	Trouble string   // why the changes of an earlier run could not be read; "": they could
}

// ringFile is in node.data_dir.
const ringFile = "cluster.keys"

// OpenKeyRing reads the keys of cluster.key_file, or what `effiscale keys` made of them in an
// earlier run. Without a key file there are none.
func OpenKeyRing(keyFile, dataDir string, log zerolog.Logger) (*KeyRing, error) {
	if keyFile == "" {
		return &KeyRing{}, nil
	}
	given, err := member.ReadKeyFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("cluster.key_file: %w", err)
	}
	r := &KeyRing{Given: given, path: filepath.Join(dataDir, ringFile)}
	keys, changed, err := member.LoadRing(r.path, given)
	r.Keys = keys
	switch {
	case err != nil:
		r.Trouble = "changes by `effiscale keys` are lost here, the keys of cluster.key_file are in force: " + err.Error()
		log.Error().Err(err).Msg("changes by `effiscale keys` are lost: the keys of cluster.key_file are in force")
	case changed:
		log.Warn().Strs("keys", keyNames(keys)).
			Msg("cluster.key_file was changed: its keys are in force, and replace those of `effiscale keys`")
	case !slices.EqualFunc(keys, given, slices.Equal[[]byte]):
		log.Info().Strs("keys", keyNames(keys)).Strs("key_file", keyNames(given)).
			Msg("the keys of `effiscale keys` are in force, not those of cluster.key_file, until that file is changed")
	}
	return r, nil
}

func keyNames(keys [][]byte) []string {
	var names []string
	for _, k := range keys {
		names = append(names, member.KeyName(k))
	}
	return names
}

// keys lists and changes the gossip keys of all members.
type keys struct {
	peers *peers
	ring  *KeyRing
	log   zerolog.Logger
	mu    sync.Mutex // held from changing the keys to writing them
}

// method answers with the fingerprints of the keys that this node has after the change, if
// one is asked for. Changes are accepted from members in gossip only.
func (o *keys) method() method[api.KeyRequest, []string] {
	return method[api.KeyRequest, []string]{name: "keys", maxBody: 1024,
		here: func(_ context.Context, from knowledge.NodeID, q api.KeyRequest) ([]string, error) {
			if q.Do != "" {
				if err := o.peers.inGossip(from); err != nil {
					return nil, err
				}
				if err := o.change(q, o.peers.nameOf(from)); err != nil {
					return nil, err
				}
			}
			return o.peers.cluster.Members().Keys(), nil
		}}
}

// change changes the keys of this node, in force and on the disk. at is the node that a user
// asked.
func (o *keys) change(q api.KeyRequest, at string) error {
	key, err := member.ParseKey(q.Key)
	if err != nil {
		return err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	m := o.peers.cluster.Members()
	switch q.Do {
	case "add":
		err = m.AddKey(key)
	case "use":
		err = m.UseKey(key)
	case "remove":
		err = m.RemoveKey(key)
	default:
		return fmt.Errorf("unknown change %q of a key: allowed are add, use, remove", q.Do)
	}
	if err != nil {
		return err
	}
	o.log.Info().Str("do", q.Do).Str("key", member.KeyName(key)).Strs("keys", m.Keys()).Str("at", at).
		Msg("cluster keys changed; the first one encrypts")
	return m.SaveRing(o.ring.path, o.ring.Given)
}

// heldKeys are the keys of one member, the one that it encrypts with first.
type heldKeys struct {
	name  string
	names []string
	err   error
}

// ask asks all live members, this one first. Really all, some at a time: a member that is
// left out of a change is cut off by it.
func (o *keys) ask(ctx context.Context, within time.Duration, q api.KeyRequest) ([]heldKeys, error) {
	m := o.method()
	body, err := m.write(q)
	if err != nil {
		return nil, err
	}
	all := []heldKeys{{name: o.peers.self, names: o.peers.cluster.Members().Keys()}}
	others := o.peers.live(math.MaxInt)
	for some := range slices.Chunk(others, peersAsked) {
		o.peers.ask(ctx, within, some, m.name, body)
	}
	for i := range others {
		h := heldKeys{name: others[i].peer.Name}
		h.names, h.err = m.of(&others[i])
		all = append(all, h)
	}
	return all, nil
}

// Keys are those that the members hold.
func (o *keys) Keys(ctx context.Context, _ api.None) (api.Keys, error) {
	all, err := o.ask(ctx, peersWithin, api.KeyRequest{})
	if err != nil {
		return api.Keys{}, err
	}
	return o.merge(all), nil
}

func (o *keys) merge(all []heldKeys) api.Keys {
	out := api.Keys{Schema: api.Schema, Keys: []api.KeyView{}, Notes: []string{}}
	of := len(all)
	var down []string
	for _, p := range o.peers.members() {
		if p.Status == "failed" {
			of++
			out.Down++
			down = append(down, nameOr(p))
		}
	}
	if len(down) > 0 {
		out.Notes = append(out.Notes, "down, and cannot be asked: "+view.Names(slices.Compact(down))+"; to come back they "+
			"need the key that the others send with, in their cluster.key_file where they do not have it")
	}
	if err := unanswered(all); err != nil {
		out.Notes = append(out.Notes, strings.Split(err.Error(), "\n")...)
	}
	for _, h := range all {
		for i, name := range h.names {
			k := slices.IndexFunc(out.Keys, func(k api.KeyView) bool { return k.Fingerprint == name })
			if k < 0 {
				k = len(out.Keys)
				out.Keys = append(out.Keys, api.KeyView{Fingerprint: name, Of: of})
			}
			out.Keys[k].Nodes++
			if i == 0 {
				out.Keys[k].Senders++
			}
		}
	}
	own := all[0].names
	if len(own) == 0 {
		return out
	}
	out.Keys[0].Primary = true
	if o.ring.Trouble != "" {
		out.Notes = append(out.Notes, o.ring.Trouble)
	}
	if given := keyNames(o.ring.Given); !slices.Equal(given, own) {
		out.Notes = append(out.Notes, fmt.Sprintf("cluster.key_file of this node holds %s: the keys above are in force, "+
			"also after a restart, until that file is changed", strings.Join(given, ", ")))
	}
	return out
}

// KeyChange changes the keys of all members. No member changes anything where one would be
// cut off by it, or does not answer.
func (o *keys) KeyChange(ctx context.Context, q api.KeyRequest) (api.Keys, error) {
	key, err := member.ParseKey(q.Key)
	if err != nil {
		return api.Keys{}, api.Errorf(api.KindRefused, "%s", err)
	}
	all, err := o.ask(ctx, peersWithin, api.KeyRequest{})
	if err != nil {
		return api.Keys{}, err
	}
	if err := wouldCut(q.Do, member.KeyName(key), all); err != nil {
		return api.Keys{}, err
	}
	if err := o.change(q, o.peers.self); err != nil {
		return api.Keys{}, api.Errorf(api.KindRefused, "%s", err)
	}
	if all, err = o.ask(ctx, orderWithin, q); err != nil {
		return api.Keys{}, err
	}
	if failed := unanswered(all); failed != nil {
		return api.Keys{}, api.Errorf(api.KindUnavailable, "the change failed on some nodes, retry: %s", failed)
	}
	return o.merge(all), nil
}

// unanswered names the members that did not answer, each cause once.
func unanswered(all []heldKeys) (errs error) {
	var causes []string
	names := map[string][]string{}
	for _, h := range all {
		if h.err == nil {
			continue
		}
		cause := view.CallCause(h.err.Error())
		if names[cause] == nil {
			causes = append(causes, cause)
		}
		names[cause] = append(names[cause], h.name)
	}
	for _, cause := range causes {
		errs = errors.Join(errs, fmt.Errorf("%s: %s", view.Names(names[cause]), cause))
	}
	return errs
}

// wouldCut names the members that could not read others any more, or not be read.
func wouldCut(do, key string, all []heldKeys) error {
	var silent, lack, send []string
	for _, h := range all {
		switch {
		case h.err != nil:
			silent = append(silent, h.name)
		case !slices.Contains(h.names, key):
			lack = append(lack, h.name)
		case h.names[0] == key:
			send = append(send, h.name)
		}
	}
	switch {
	case do != "add" && len(silent) > 0:
		return api.Errorf(api.KindUnavailable, "nothing was changed, these nodes do not answer: %s",
			strings.Join(silent, ", "))
	case do == "use" && len(lack) > 0:
		return api.Errorf(api.KindRefused, "nothing was changed: the key %s is missing on these nodes, which could not "+
			"read messages encrypted with it: %s; add it first", key, strings.Join(lack, ", "))
	case do == "remove" && len(lack) == len(all):
		return api.Errorf(api.KindNotFound, "no node has the key %s", key)
	case do == "remove" && len(send) > 0:
		return api.Errorf(api.KindRefused, "nothing was changed: these nodes encrypt with the key %s: %s; "+
			"use another one first", key, strings.Join(send, ", "))
	}
	return nil
}
