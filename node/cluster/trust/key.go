package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const (
	keyFile = "node.key"
	keyType = "PRIVATE KEY"
	// maxKeyFile: a PKCS8 Ed25519 key in PEM has 119 bytes.
	maxKeyFile = 4096
)

// LoadKey reads the node's key from dir, or makes one that is on the disk before
// it is used. made reports which: a node that lost its disk is another node.
func LoadKey(dir string) (id *Identity, made bool, err error) {
	path := filepath.Join(dir, keyFile)
	id, err = readKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	if id, err = NewIdentity(nil); err != nil {
		return nil, false, err
	}
	err = writeKey(dir, path, id)
	if errors.Is(err, fs.ErrExist) { // another process was faster: the file decides
		id, err = readKey(path)
		return id, false, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot keep the node's key %s: %w", path, err)
	}
	return id, true, nil
}

// CheckKey reports why the node's key in dir cannot be used; nil: it can, or there is none yet.
func CheckKey(dir string) error {
	_, err := readKey(filepath.Join(dir, keyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readKey(path string) (*Identity, error) {
	fail := func(err error) (*Identity, error) {
		return nil, fmt.Errorf("cannot use the node's key %s: %w", path, err)
	}
	b, err := ReadPrivate(path, syscall.O_NOFOLLOW)
	if err != nil {
		return fail(err)
	}
	key, err := parseKey(b)
	if err != nil {
		return fail(fmt.Errorf("%w; restore it, or remove it for a new identity", err))
	}
	return identityOf(key), nil
}

func parseKey(b []byte) (ed25519.PrivateKey, error) {
	if len(b) > maxKeyFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != keyType || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New("it is not one PEM block " + keyType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("its key is a %T, not Ed25519", parsed)
	}
	return key, nil
}

// writeKey makes the file whole or not at all, and never over another one.
func writeKey(dir, path string, id *Identity) error {
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return WritePrivate(path, pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: der}), os.Link)
}
