package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/node/api"
	"github.com/effiscale/effiscale/node/cluster/member"
	"github.com/effiscale/effiscale/node/config"
	"github.com/effiscale/effiscale/node/view"
)

// ringFile is in node.data_dir.
const ringFile = "cluster.keys"

// clusterKeys are the keys of cluster.key_file, or what `effiscale keys` made of them
// in an earlier life. Without a key_file there are none.
func (n *Node) clusterKeys(cfg config.Config) ([][]byte, error) {
	if cfg.Cluster.KeyFile == "" {
		return nil, nil
	}
	given, err := member.ReadKeyFile(cfg.Cluster.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: cluster.key_file: %w", ErrConfig, err)
	}
	n.givenKeys, n.ringPath = given, filepath.Join(cfg.Node.DataDir, ringFile)
	keys, changed, err := member.LoadRing(n.ringPath, given)
	switch {
	case err != nil:
		n.keyTrouble = "what `effiscale keys` changed here is lost, the keys of cluster.key_file are in force: " + err.Error()
		n.log.Error().Err(err).Msg("what `effiscale keys` changed here is lost: the keys of cluster.key_file are in force")
	case changed:
		n.log.Warn().Strs("keys", keyNames(keys)).Msg("cluster.key_file was changed: its keys are in force, not what `effiscale keys` made of the ones before")
	case !sameKeys(keys, given):
		n.log.Info().Strs("keys", keyNames(keys)).Strs("key_file", keyNames(given)).
			Msg("the keys in force are those of `effiscale keys`, not those of cluster.key_file, until that file is changed")
	}
	return keys, nil
}

func keyNames(keys [][]byte) []string {
	var names []string
	for _, k := range keys {
		names = append(names, member.KeyName(k))
	}
	return names
}

func sameKeys(a, b [][]byte) bool { return slices.EqualFunc(a, b, slices.Equal[[]byte]) }

// keysForPeer answers another node: what is to be done, if anything, and the
// fingerprints of the keys that this one then has. Only who gossips now may change them.
func (n *Node) keysForPeer(from knowledge.NodeID, body []byte) ([]byte, error) {
	var r api.KeyRequest
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, err
	}
	if r.Do != "" {
		if err := n.heard(from); err != nil {
			return nil, err
		}
		if err := n.changeKey(r, n.nameOf(from)); err != nil {
			return nil, err
		}
	}
	return json.Marshal(n.cluster.Members().Keys())
}

// changeKey changes the keys of this node, in force and on the disk. at is the node where
// it was asked for.
func (n *Node) changeKey(r api.KeyRequest, at string) error {
	key, err := member.ParseKey(r.Key)
	if err != nil {
		return err
	}
	n.docs.Lock()
	defer n.docs.Unlock()
	m := n.cluster.Members()
	switch r.Do {
	case "add":
		err = m.AddKey(key)
	case "use":
		err = m.UseKey(key)
	case "remove":
		err = m.RemoveKey(key)
	default:
		return fmt.Errorf("%q is not to be done with a key: allowed are add, use, remove", r.Do)
	}
	if err != nil {
		return err
	}
	n.log.Info().Str("do", r.Do).Str("key", member.KeyName(key)).Strs("keys", m.Keys()).Str("at", at).
		Msg("the keys of the cluster are changed; the first of them sends")
	return m.SaveRing(n.ringPath, n.givenKeys)
}

// held is which keys one member has, the one that it sends with first.
type held struct {
	name  string
	names []string
	err   error
}

// askKeys asks all members that live, this one first: really all, some at a time, for
// whoever is left out of a change is cut off by it.
func (n *Node) askKeys(ctx context.Context, within time.Duration, body []byte) []held {
	all := []held{{name: n.identity.Name, names: n.cluster.Members().Keys()}}
	others := n.livePeersUpTo(math.MaxInt)
	for some := range slices.Chunk(others, peersAsked) {
		n.ask(ctx, within, some, "keys", body)
	}
	for _, a := range others {
		h := held{name: a.peer.Name, err: a.err}
		if h.err == nil {
			h.err = json.Unmarshal(a.body, &h.names)
		}
		all = append(all, h)
	}
	return all
}

// Keys are those that the members hold.
func (n *Node) Keys(ctx context.Context) (api.Keys, error) {
	return n.keys(n.askKeys(ctx, peersWithin, []byte("{}"))), nil
}

func (n *Node) keys(all []held) api.Keys {
	out := api.Keys{Schema: api.Schema, Keys: []api.KeyView{}, Notes: []string{}}
	of := len(all)
	var down []string
	for _, p := range n.cluster.Members().Peers() {
		if p.Status == "failed" {
			of++
			out.Down++
			down = append(down, nameOr(p))
		}
	}
	if len(down) > 0 {
		out.Notes = append(out.Notes, "down, and cannot be asked: "+view.Names(slices.Compact(down))+"; to come back they need the key that the others send with, in their cluster.key_file where they had not got it")
	}
	if err := unheard(all); err != nil {
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
	if n.keyTrouble != "" {
		out.Notes = append(out.Notes, n.keyTrouble)
	}
	if given := keyNames(n.givenKeys); !slices.Equal(given, own) {
		out.Notes = append(out.Notes, fmt.Sprintf("cluster.key_file of this node holds %s: the keys above count, also after a restart, until that file is changed",
			strings.Join(given, ", ")))
	}
	return out
}

// KeyChange changes the keys of all members. Nobody changes anything where somebody
// would be cut off by it, or does not answer.
func (n *Node) KeyChange(ctx context.Context, r api.KeyRequest) (api.Keys, error) {
	key, err := member.ParseKey(r.Key)
	if err != nil {
		return api.Keys{}, api.Errorf(api.KindRefused, "%s", err)
	}
	if err := wouldCut(r.Do, member.KeyName(key), n.askKeys(ctx, peersWithin, []byte("{}"))); err != nil {
		return api.Keys{}, err
	}
	if err := n.changeKey(r, n.identity.Name); err != nil {
		return api.Keys{}, api.Errorf(api.KindRefused, "%s", err)
	}
	body, err := json.Marshal(r)
	if err != nil {
		return api.Keys{}, err
	}
	all := n.askKeys(ctx, orderWithin, body)
	if failed := unheard(all); failed != nil {
		return api.Keys{}, api.Errorf(api.KindUnavailable, "not all nodes did it, ask again: %s", failed)
	}
	return n.keys(all), nil
}

// unheard says who did not answer, each cause once.
func unheard(all []held) (errs error) {
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

// wouldCut says who could not read the others any more, or they not him.
func wouldCut(do, key string, all []held) error {
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
		return api.Errorf(api.KindUnavailable, "nothing was changed, for these nodes do not answer: %s", strings.Join(silent, ", "))
	case do == "use" && len(lack) > 0:
		return api.Errorf(api.KindRefused, "nothing was changed: what is sent with the key %s could not be read by %s: add it first", key, strings.Join(lack, ", "))
	case do == "remove" && len(lack) == len(all):
		return api.Errorf(api.KindNotFound, "no node has the key %s", key)
	case do == "remove" && len(send) > 0:
		return api.Errorf(api.KindRefused, "nothing was changed: the key %s is what these send with: %s; use another one first", key, strings.Join(send, ", "))
	}
	return nil
}
