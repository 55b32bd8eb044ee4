package member

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/effiscale/effiscale/node/cluster/trust"
)

// ring is the file that keeps what `keys add`, `use` and `remove` made of the key
// file's keys.
type ring struct {
	// Given are the hashes of the key file's keys when this was written: while it
	// has the same, the ring is in force.
	Given []string `json:"key_file"`
	Keys  []string `json:"keys"` // the first encrypts
}

func hashes(keys [][]byte) []string {
	out := []string{}
	for _, k := range keys {
		sum := sha256.Sum256(k)
		out = append(out, hex.EncodeToString(sum[:]))
	}
	return out
}

// LoadRing are the keys to begin with: those of the ring, while the key file still
// has the keys from which the ring was made; else, changed, the key file's, which
// the ring then holds, too. With an error they are the key file's.
func LoadRing(path string, given [][]byte) (keys [][]byte, changed bool, err error) {
	b, err := trust.ReadPrivate(path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return given, false, nil
	}
	var r ring
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err == nil && (len(r.Keys) == 0 || len(r.Keys) > maxKeys) {
		err = fmt.Errorf("it holds %d keys: 1 to %d are allowed", len(r.Keys), maxKeys)
	}
	for _, s := range r.Keys {
		key, keyErr := ParseKey(s)
		err = errors.Join(err, keyErr)
		keys = append(keys, key)
	}
	switch {
	case err != nil:
		return given, false, fmt.Errorf("cannot use the keys in %s: %w", path, err)
	case !slices.Equal(r.Given, hashes(given)):
		// At once: a key file that is changed back later must not bring the ring back.
		return given, true, writeRing(path, given, given)
	}
	return keys, false, nil
}

// SaveRing saves this node's keys for its next start; given are those of the key file.
func (m *Members) SaveRing(path string, given [][]byte) error {
	if err := writeRing(path, given, m.keyring.keys()); err != nil {
		return fmt.Errorf("keys changed until the next restart only: %w", err)
	}
	return nil
}

// writeRing makes the file whole or leaves the old one.
func writeRing(path string, given, keys [][]byte) error {
	r := ring{Given: hashes(given)}
	for _, k := range keys {
		r.Keys = append(r.Keys, base64.StdEncoding.EncodeToString(k))
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return trust.WritePrivate(path, b, os.Rename)
}
