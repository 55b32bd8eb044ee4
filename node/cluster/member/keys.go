package member

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// maxKeys bounds what a packet that no key fits costs: one try each. Rotation needs two.
const maxKeys = 4

// NewKey makes a gossip key: 32 random bytes, in base64.
func NewKey() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails since Go 1.24
	return base64.StdEncoding.EncodeToString(b)
}

// ParseKey reads what NewKey writes. Its errors never tell the key.
func ParseKey(s string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, errors.New("a key is 16, 24 or 32 bytes in base64: this is no base64")
	}
	if memberlist.ValidateKey(b) != nil {
		return nil, fmt.Errorf("a key is 16, 24 or 32 bytes in base64: this is %d bytes", len(b))
	}
	return b, nil
}

// ReadKeyFile reads keys, one a line; empty lines and those that begin with # are
// skipped. The first key encrypts, all decrypt. A file that others than its owner
// may read is refused.
func ReadKeyFile(path string) ([][]byte, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys: %w", err)
	}
	var keys [][]byte
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 || len(keys) > maxKeys {
		return nil, fmt.Errorf("%s holds %d keys: 1 to %d are allowed", path, len(keys), maxKeys)
	}
	return keys, nil
}

// KeyName is a key's fingerprint: what is shown of it.
func KeyName(key []byte) string { return fmt.Sprintf("%08x", fingerprint(key)) }

func fingerprint(key []byte) uint32 {
	sum := sha256.Sum256(key)
	return max(1, binary.BigEndian.Uint32(sum[:])) // 0 is none
}

var errNoKeys = errors.New("gossip is not encrypted here: name a key file and restart")

// Keys are the fingerprints of the keys, the one that encrypts first.
func (m *Members) Keys() []string {
	var names []string
	for _, k := range m.keys() {
		names = append(names, KeyName(k))
	}
	return names
}

// keys are the keys themselves, the one that encrypts first.
func (m *Members) keys() [][]byte {
	if m.keyring == nil {
		return nil
	}
	return m.keyring.GetKeys()
}

// AddKey lets this node read what is encrypted with key.
func (m *Members) AddKey(key []byte) error {
	if m.keyring == nil {
		return errNoKeys
	}
	keys := m.keys()
	if len(keys) >= maxKeys && !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
		return fmt.Errorf("cannot add a key: there are %d already, remove one first", len(keys))
	}
	return m.keyChange("add", m.keyring.AddKey(bytes.Clone(key)))
}

// UseKey makes this node encrypt with a key that it has. All nodes should have it.
func (m *Members) UseKey(key []byte) error {
	if m.keyring == nil {
		return errNoKeys
	}
	return m.keyChange("use", m.keyring.UseKey(key))
}

// RemoveKey forgets a key, but for the one in use.
func (m *Members) RemoveKey(key []byte) error {
	if m.keyring == nil {
		return errNoKeys
	}
	return m.keyChange("remove", m.takeOut(key))
}

// takeOut removes the key and those behind it from the end on, and puts these back:
// memberlist (0.7) closes a gap by moving the later keys inside the array that it and
// prints are reading at that moment. What comes with one of those meanwhile is lost,
// as a packet may be.
func (m *Members) takeOut(key []byte) error {
	keys := slices.Clone(m.keys())
	at := slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	if at <= 0 { // not there, or in use
		return m.keyring.RemoveKey(key)
	}
	for i := len(keys) - 1; i >= at; i-- {
		if err := m.keyring.RemoveKey(keys[i]); err != nil {
			return err
		}
	}
	for _, k := range keys[at+1:] {
		if err := m.keyring.AddKey(k); err != nil {
			return err
		}
	}
	return nil
}

func (m *Members) keyChange(verb string, err error) error {
	if err != nil {
		return fmt.Errorf("cannot %s the key: %w", verb, err)
	}
	m.Update(func(*Meta) {})
	return nil
}

// prints are the first fingerprints, for the metadata.
func (m *Members) prints() (p [4]uint32) {
	for i, k := range m.keys() {
		if i < len(p) {
			p[i] = fingerprint(k)
		}
	}
	return p
}
