"""FiftyOne, where people look: its database, the dataset in step with the bucket, evaluations, saved views, the App.

    ensure_database(folder)                        a database, started when it is not running
    sync_dataset(name, items, class_names)         samples, predictions and labels; only what changed is written
    write_evaluation(name, eval_key, ...)          the matching's outcome on every box
    save_views(name, eval_key=..., rules=...)      links that a reviewer opens
    write_embeddings(name, ...), find_alike(name, ...)    similarity, uniqueness and near-duplicates
    launch_command(folder, port, project), app_url(name, slug)    the App, on loopback, with our plugin

The database is a view of the bucket: deleted, the same calls rebuild it.
"""

from tasks.adapters.review.alike import Alike, find_alike, forget_alike, not_embedded, write_embeddings
from tasks.adapters.review.app import DEFAULT_PORT, PROJECT_VARIABLE, app_url, bring_plugin, launch_command
from tasks.adapters.review.dataset import ReviewItem, SyncCounts, remove_samples, sync_dataset
from tasks.adapters.review.evaluation import remove_evaluations, write_evaluation
from tasks.adapters.review.mongod import check_that_it_answers, ensure_database, find_mongod, stop_database
from tasks.adapters.review.views import SavedView, save_list_view, save_views

__all__ = [
    "DEFAULT_PORT",
    "PROJECT_VARIABLE",
    "Alike",
    "ReviewItem",
    "SavedView",
    "SyncCounts",
    "app_url",
    "bring_plugin",
    "check_that_it_answers",
    "ensure_database",
    "find_alike",
    "find_mongod",
    "forget_alike",
    "launch_command",
    "not_embedded",
    "remove_evaluations",
    "remove_samples",
    "save_list_view",
    "save_views",
    "stop_database",
    "sync_dataset",
    "write_embeddings",
    "write_evaluation",
]
