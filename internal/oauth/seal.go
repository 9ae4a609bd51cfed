package oauth

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
)

// deriving makes the key for one purpose from a secret.
type deriving func(secret []byte) ([]byte, error)

// seal makes a text of v that only those who have the secrets can make and read
// (AES-256-GCM). The first secret seals.
func seal(random io.Reader, secrets [][]byte, derive deriving, v any) (string, error) {
	if len(secrets) == 0 {
		return "", errNoSecrets
	}
	aead, err := sealer(secrets[0], derive)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("writing what is sealed: %w", err)
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return "", fmt.Errorf("reading random bytes: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, plain, nil)), nil
}

// unseal reads into v what seal made with any of the secrets.
func unseal(secrets [][]byte, derive deriving, text string, v any) bool {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return false
	}
	for _, secret := range secrets {
		aead, err := sealer(secret, derive)
		if err != nil || len(sealed) < aead.NonceSize() {
			return false
		}
		plain, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], nil)
		if err == nil {
			return json.Unmarshal(plain, v) == nil
		}
	}
	return false
}

func sealer(secret []byte, derive deriving) (cipher.AEAD, error) {
	key, err := derive(secret)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("making a cipher: %w", err)
	}
	return aead, nil
}
