from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from msgraph import GraphRequestAdapter, GraphServiceClient


def graph_client(sidecar="http://127.0.0.1:8080", authentication=None):
    adapter = GraphRequestAdapter(authentication or AnonymousAuthenticationProvider())
    adapter.base_url = f"{sidecar}/graph/v1.0"
    return GraphServiceClient(request_adapter=adapter)
