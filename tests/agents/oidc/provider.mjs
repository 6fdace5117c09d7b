// A real identity provider for the tests: node provider.mjs PORT AUDIENCE; it prints a line when it listens.
// Whoever asks for a token says by its scope which roles stand in it.
import { Provider } from 'oidc-provider';

const [port, audience] = process.argv.slice(2);
const agent = {
  client_id: 'agent',
  client_secret: 'known-to-the-tests',
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [agent],
  scopes: ['operator', 'reviewer', 'promoter', 'stranger'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource) => ({
        scope: 'operator reviewer promoter stranger',
        audience: resource === 'urn:other' ? 'other' : audience,
        accessTokenFormat: 'jwt',
        accessTokenTTL: resource === 'urn:brief' ? 300 : 600,
      }),
    },
  },
  extraTokenClaims: (context, token) => ({ groups: (token.scope ?? '').split(' ') }),
});
provider.listen(Number(port), '127.0.0.1', () => console.log('listening'));
