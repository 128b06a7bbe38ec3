"""What describes the WebSocket routes of an application: an AsyncAPI document, and a page to try them."""

from apistar_ws.asyncapi.page import asset_response, page_response
from apistar_ws.asyncapi.replay import denial_response
from apistar_ws.asyncapi.served import document_of, document_response

__all__ = ['asset_response', 'denial_response', 'document_of', 'document_response', 'page_response']
