package state

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	policyPrefix = "policy-"
	policySuffix = ".gz"
	shownDigits  = 16 // of a digest, in file names and messages
)

// Source is one file of a policy, as it was read.
type Source struct {
	Name string
	Text []byte
}

// Digest is the identity of a policy: SHA-256, in hex, over the number of
// sources and, for each, the length and bytes of its name and of its text.
// Lengths are 8 bytes, big-endian.
func Digest(sources []Source) string {
	sum := sha256.New()
	frame(sum, sources)
	return hex.EncodeToString(sum.Sum(nil))
}

// frame writes what a digest is made of, which is also what is stored.
func frame(to io.Writer, sources []Source) error {
	var length [8]byte
	put := func(n int) error {
		binary.BigEndian.PutUint64(length[:], uint64(n))
		_, err := to.Write(length[:])
		return err
	}
	err := put(len(sources))
	for _, source := range sources {
		for _, part := range [][]byte{[]byte(source.Name), source.Text} {
			if err == nil {
				err = put(len(part))
			}
			if err == nil {
				_, err = to.Write(part)
			}
		}
	}
	return err
}

func framedSize(sources []Source) int {
	size := 8
	for _, source := range sources {
		size += 16 + len(source.Name) + len(source.Text)
	}
	return size
}

// SavePolicy stores the sources of a policy and gives their digest. What is
// stored already is not written again.
func (d *Dir) SavePolicy(sources []Source) (digest string, err error) {
	digest = Digest(sources)
	target := d.policyPath(digest)
	if isWhole(target, framedSize(sources)) {
		return digest, nil
	}
	if err := d.sweep(policyPrefix); err != nil {
		return "", err
	}
	path, err := writeTemporary(target, func(file *os.File) error {
		buffered := bufio.NewWriterSize(file, 1<<16)
		compressor, err := gzip.NewWriterLevel(buffered, gzip.BestSpeed)
		if err != nil {
			return err
		}
		return errors.Join(frame(compressor, sources), compressor.Close(), buffered.Flush())
	})
	if err != nil {
		return "", err
	}
	if err := os.Rename(path, target); err != nil {
		os.Remove(path)
		return "", writeFailed("write", target, linkCause(err))
	}
	if err := syncDir(d.path); err != nil {
		return "", writeFailed("sync the state folder", d.path, err)
	}
	return digest, nil
}

// isWhole is whether a stored policy ends as a gzip file of so many bytes does
// (RFC 1952 2.3.1): one that a broken disk has cut off is written again.
func isWhole(path string, size int) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() < 18 {
		return false
	}
	var trailer [4]byte
	if _, err := file.ReadAt(trailer[:], info.Size()-4); err != nil {
		return false
	}
	return binary.LittleEndian.Uint32(trailer[:]) == uint32(size)
}

// LoadPolicy gives the sources of a stored policy, in their order. They are
// the ones that were saved: the digest is made again and compared. One that is
// not stored is an [fs.ErrNotExist], one that is damaged a [*CorruptError].
func (d *Dir) LoadPolicy(digest string) ([]Source, error) {
	if err := checkDigest(digest); err != nil {
		return nil, fmt.Errorf("read stored policy: %w", err)
	}
	path := d.policyPath(digest)
	stored, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read stored policy: %w", err)
	}
	content, err := decompress(stored)
	if err != nil {
		return nil, corrupt(path, "is cut off or damaged", err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
		return nil, corrupt(path, "does not have the digest it was stored under", nil)
	}
	sources, ok := unframe(content)
	if !ok {
		return nil, corrupt(path, "does not hold the sources of a policy", nil)
	}
	return sources, nil
}

// Stored are the starts of the digests of all stored policies, as they are in
// file names.
func (d *Dir) Stored() []string {
	entries, _ := os.ReadDir(d.path)
	var out []string
	for _, entry := range entries {
		if digits, ok := strings.CutPrefix(entry.Name(), policyPrefix); ok && strings.HasSuffix(digits, policySuffix) {
			out = append(out, strings.TrimSuffix(digits, policySuffix))
		}
	}
	return out
}

// Holds says whether a policy is stored.
func (d *Dir) Holds(digest string) bool {
	if checkDigest(digest) != nil {
		return false
	}
	_, err := os.Stat(d.policyPath(digest))
	return err == nil
}

// Unnamed are the digests of the stored policies that neither a state nor the
// history names: of applies that stored their policy and did not come to their end.
func (d *Dir) Unnamed(s *State) []string {
	named := map[string]bool{}
	for _, digest := range append(s.policies(), d.kept()...) {
		named[policyName(digest)] = true
	}
	entries, _ := os.ReadDir(d.path)
	var out []string
	for _, entry := range entries {
		name := entry.Name()
		if named[name] || !strings.HasPrefix(name, policyPrefix) || !strings.HasSuffix(name, policySuffix) {
			continue
		}
		if stored, err := os.ReadFile(filepath.Join(d.path, name)); err == nil {
			if content, err := decompress(stored); err == nil {
				sum := sha256.Sum256(content)
				out = append(out, hex.EncodeToString(sum[:]))
			}
		}
	}
	return out
}

func decompress(stored []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

// unframe is frame the other way; no length is believed before it is checked.
func unframe(content []byte) ([]Source, bool) {
	next := func() (uint64, bool) {
		if len(content) < 8 {
			return 0, false
		}
		n := binary.BigEndian.Uint64(content)
		content = content[8:]
		return n, true
	}
	part := func() ([]byte, bool) {
		n, ok := next()
		if !ok || n > uint64(len(content)) {
			return nil, false
		}
		text := content[:n:n]
		content = content[n:]
		return text, true
	}
	count, ok := next()
	if !ok || count > uint64(len(content)/16) {
		return nil, false
	}
	sources := make([]Source, count)
	for i := range sources {
		name, named := part()
		text, read := part()
		if !named || !read {
			return nil, false
		}
		sources[i] = Source{Name: string(name), Text: text}
	}
	return sources, len(content) == 0
}

func (d *Dir) policyPath(digest string) string {
	return filepath.Join(d.path, policyName(digest))
}

func policyName(digest string) string {
	return policyPrefix + digest[:shownDigits] + policySuffix
}

// dropPolicies removes all stored policies but these.
func (d *Dir) dropPolicies(keep []string) error {
	var names []string
	for _, digest := range keep {
		names = append(names, policyName(digest))
	}
	return d.removeMatching(func(name string) bool {
		return strings.HasPrefix(name, policyPrefix) && strings.HasSuffix(name, policySuffix) &&
			!slices.Contains(names, name)
	})
}

// checkDigest guards file names made from a digest that was read from a file.
func checkDigest(digest string) error {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || strings.ToLower(digest) != digest {
		return fmt.Errorf("%q is not the digest of a policy", digest)
	}
	return nil
}
